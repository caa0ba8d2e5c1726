"""What is read of a living cluster, and what is made of refusals, odd answers and silence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdmo.doctor import ClusterFacts, Source, diagnose
from cdmo.errors import ClusterUnavailable, Denied
from cdmo.kube.doctor_reader import KINDS, read_facts
from tests.doctor.faults import FAULTS, plugin_file
from tests.doctor.living import LivingCluster
from tests.doctor.recorded import NOW, Recorded, gpu_node, metadata, recorded
from tests.fakes import faults
from tests.kube.objects import connection_to

LIMIT = 20.0  # seconds


async def read(cluster: Recorded, folder: Path, *, forbidden: Collection[str] = (), lists: Any = ()) -> ClusterFacts:
    async with LivingCluster(cluster, forbidden) as server, connection_to(server.url, folder) as connection:
        server.script("list", *lists)
        return await read_facts(connection, NOW, LIMIT)


def ordered(facts: ClusterFacts) -> ClusterFacts:
    """The same with every list by name: a recorded cluster is in the order of its making."""
    fields: dict[str, Any] = {
        name: tuple(sorted(getattr(facts, name), key=str))
        for name in facts.__dataclass_fields__
        if isinstance(getattr(facts, name), tuple)
    }
    return replace(facts, **fields)


async def test_everything_is_read_as_it_is(tmp_path: Path) -> None:
    cluster = recorded()
    plugin_file("flags: {migStrategy: none}", default="mig", label_value="odd")(cluster)
    found, wanted = await read(cluster, tmp_path), cluster.facts()
    # A stored object has a version.
    assert ordered(replace(found, mig_nodes=())) == ordered(replace(wanted, mig_nodes=()))
    assert [each.status for each in found.mig_nodes] == [each.status for each in wanted.mig_nodes]


@pytest.mark.parametrize("fault", FAULTS[::7], ids=lambda each: each.name)
async def test_a_fault_is_found_in_a_living_cluster_as_well(fault: Any, tmp_path: Path) -> None:
    cluster = recorded()
    fault.plant(cluster)
    found = diagnose(await read(cluster, tmp_path))
    assert {each.check for each in found if each.status != "ok"} == {fault.check}


@pytest.mark.parametrize("source", KINDS)
async def test_a_kind_that_may_not_be_listed_is_named_and_the_rest_is_read(source: Source, tmp_path: Path) -> None:
    found = await read(recorded(), tmp_path, forbidden=[KINDS[source].plural])
    assert found.unread.keys() == {source}
    assert f"could not list {source}" in found.unread[source]
    assert len(found.nodes) == (0 if source is Source.NODES else 3)


async def test_access_that_may_not_be_asked_for_is_named(tmp_path: Path) -> None:
    found = await read(recorded(), tmp_path, forbidden=["subjectaccessreviews"])
    assert found.unread.keys() == {Source.ACCESS}
    assert not found.rights


async def test_a_config_map_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    cluster = recorded()
    plugin_file("", default="mig")(cluster)
    found = await read(cluster, tmp_path, forbidden=["configmaps"])
    assert found.unread.keys() == {Source.CONFIG_MAPS}
    assert not found.config_maps


async def test_a_kind_that_the_cluster_does_not_know_is_empty(tmp_path: Path) -> None:
    missing = [faults.answer(404, "NotFound") for _ in KINDS]
    found = await read(recorded(), tmp_path, lists=missing)
    assert (found.nodes, found.unread) == ((), {})


async def test_a_gpu_cluster_of_another_version_is_found(tmp_path: Path) -> None:
    cluster = recorded()
    versions = {"versions": [{"name": "v1beta1", "served": True}]}
    cluster.put(Source.DEFINITIONS, {**metadata("gpuclusters.nvidia.com"), "spec": versions})
    async with LivingCluster(cluster) as server, connection_to(server.url, tmp_path) as connection:
        server.store.apply("apis/nvidia.com/v1beta1/gpuclusters/gpus", metadata("gpus"))
        assert (await read_facts(connection, NOW, LIMIT)).gpu_clusters == ("gpus",)


async def test_more_than_a_page_is_read(tmp_path: Path) -> None:
    cluster = recorded()
    for number in range(600):
        for source, each in gpu_node(f"more-{number:03}"):
            cluster.put(source, each)
    found = await read(cluster, tmp_path)
    assert (len(found.nodes), len(found.mig_nodes)) == (603, 602)


@pytest.mark.parametrize("content", [faults.GARBAGE, b'{"metadata":{},"items":[{"metadata":{"name":7}}]}'])
async def test_an_odd_answer_costs_its_kind_alone(content: bytes, tmp_path: Path) -> None:
    found = await read(recorded(), tmp_path, lists=[faults.body(content)])
    assert len(found.unread) == 1


async def test_a_cluster_that_lets_nothing_be_read_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnavailable) as failure:
        await read(recorded(), tmp_path, forbidden=[each.plural for each in KINDS.values()])
    assert "could not list" in failure.value.hint


async def test_credentials_that_are_refused_are_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Denied):
        await read(recorded(), tmp_path, forbidden=["version"])


async def test_a_cluster_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    async with LivingCluster(recorded()) as server, connection_to(server.url, tmp_path) as connection:
        server.script("list", faults.hang)
        with pytest.raises(ClusterUnavailable) as failure:
            await read_facts(connection, NOW, 0.3)
    assert str(failure.value) == "the cluster could not be read within 0.3 s"
