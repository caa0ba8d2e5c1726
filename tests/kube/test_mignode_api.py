"""MigNodes over the wire: whose fields are written, and how."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdmo.api.v1alpha1 import (
    GpuLayout,
    Metadata,
    MigNode,
    MigNodeSpec,
    MigNodeStatus,
    Mode,
    OwnerReference,
    PlacedProfile,
    Summary,
)
from cdmo.errors import AlreadyExists, Conflict, Invalid, NotFound
from cdmo.kube.mignode_api import KubeMigNodes
from tests.fakes.api_server import FakeApiServer
from tests.kube.objects import connection_to

pytestmark = pytest.mark.asyncio

PATH = "apis/cdmo.clear.ml/v1alpha1/mignodes/gpu-1"
BUS = "00000000:10:00.0"
SPEC = MigNodeSpec(
    observed_revision=3, gpus=(GpuLayout(pci_bus_id=BUS, layout=(PlacedProfile(profile_id=9, start=4),)),)
)
OWNER = OwnerReference(name="gpu-1", uid="u1")


@asynccontextmanager
async def mig_nodes(folder: Path) -> AsyncIterator[tuple[FakeApiServer, KubeMigNodes]]:
    """The adapter on an empty fake API server."""
    async with FakeApiServer() as server, connection_to(server.url, folder) as connection:
        yield server, KubeMigNodes(connection)


async def test_a_new_one_says_its_kind_its_owner_and_every_field_of_its_spec(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        node = MigNode(metadata=Metadata(name="gpu-1", owner_references=(OWNER,)))
        made = await api.create(node)
        assert server.asked("post")[0].json() == {
            "apiVersion": "cdmo.clear.ml/v1alpha1",
            "kind": "MigNode",
            "metadata": {
                "name": "gpu-1",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "gpu-1", "uid": "u1"}],
            },
            "spec": {"mode": "Managed", "gpus": [], "observedRevision": 0},
        }
        assert made == await api.get("gpu-1")
        assert made.metadata.resource_version
        with pytest.raises(AlreadyExists):
            await api.create(node)


async def test_writing_the_layouts_keeps_the_administrators_mode(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        server.store.apply(PATH, {"spec": {"mode": "Disabled", "observedRevision": 8}})
        before = await api.get("gpu-1")
        after = await api.write_spec("gpu-1", SPEC, before.metadata.resource_version)
        assert after.spec.mode is Mode.DISABLED
        assert (after.spec.gpus, after.spec.observed_revision) == (SPEC.gpus, 3)


async def test_values_that_are_defaults_are_written_all_the_same(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        server.store.apply(PATH, {"spec": {"observedRevision": 8, "gpus": [{"pciBusId": BUS, "layout": []}]}})
        before = await api.get("gpu-1")
        await api.write_spec(
            "gpu-1", MigNodeSpec(gpus=(GpuLayout(pci_bus_id=BUS),)), before.metadata.resource_version
        )
        assert server.asked("patch")[0].json()["spec"] == {
            "gpus": [{"pciBusId": BUS, "layout": []}],
            "observedRevision": 0,
        }


async def test_what_is_withheld_is_written_and_gone_when_it_is_no_longer_said(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        server.store.apply(PATH, {"spec": {}})
        before = await api.get("gpu-1")
        placed = (PlacedProfile(profile_id=9, start=4),)
        withholding = replace(SPEC, gpus=(GpuLayout(pci_bus_id=BUS, layout=placed, withheld=placed),))
        held = await api.write_spec("gpu-1", withholding, before.metadata.resource_version)
        assert held.spec == withholding
        after = await api.write_spec("gpu-1", SPEC, held.metadata.resource_version)
        assert after.spec == SPEC


@pytest.mark.parametrize("version", ["1", ""])
async def test_a_spec_planned_from_an_old_version_is_not_written(tmp_path: Path, version: str) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        server.store.apply(PATH, {"spec": {}})
        with pytest.raises(Conflict):
            await api.write_spec("gpu-1", SPEC, version)


async def test_a_status_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        server.store.apply(PATH, {"status": {"revision": 4, "lastRepartition": {"old": "yes"}}, "spec": {}})
        status = MigNodeStatus(revision=5, summary=Summary(gpus=1, slices="0/2"))
        after = await api.write_status("gpu-1", status)
        assert after.status == status
        (held,) = server.store.objects.values()
        assert held["status"] == {"revision": 5, "summary": {"gpus": 1, "slices": "0/2"}}
        assert server.asked("patch")[0].path == f"/{PATH}/status"


async def test_an_object_against_its_types_names_the_field(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (server, api):
        server.store.apply(PATH, {"spec": {"gpus": [{"pciBusId": BUS, "layout": [{"profileId": 9, "start": 99}]}]}})
        with pytest.raises(Invalid, match=r"get MigNode gpu-1.*\$\.spec\.gpus\[0\]\.layout\[0\]\.start"):
            await api.get("gpu-1")


async def test_one_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with mig_nodes(tmp_path) as (_, api):
        with pytest.raises(NotFound, match="get MigNode gpu-1"):
            await api.get("gpu-1")
