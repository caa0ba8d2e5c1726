"""Writes whose answer is lost, that come late or are refused, on the real API server: none is done twice to harm."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.control_plane import ControlPlane

from cdmo.api.schema import yaml_text
from cdmo.api.v1alpha1 import GpuLayout, Metadata, MigNode, MigNodeSpec, MigNodeStatus, PlacedProfile, Summary
from cdmo.errors import AlreadyExists, ClusterError, ClusterUnavailable, Conflict
from cdmo.kube.connect import Connection
from cdmo.kube.port import Event, FenceApi, Involved
from cdmo.model.names import FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT
from cdmo.model.reasons import EventReason
from tests.kube.objects import node_json
from tests.kube.real import client_of
from tests.proxied import through, until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio, pytest.mark.timeout(60)]

FENCED = {FENCE_LABEL: FENCE_VALUE}
UNFENCED = {FENCE_LABEL: None}
EFFECT = "NoSchedule"
_NUMBERS = itertools.count(1)


@pytest.fixture
def node(control_plane: ControlPlane) -> str:
    """A Node of the test's own."""
    name = f"writes-{next(_NUMBERS)}"
    control_plane.api.create("/api/v1/nodes", node_json(name))
    return name


@pytest.fixture
async def connection(proxy: ApiProxy, kubeconfig: Path, node: str) -> AsyncIterator[Connection]:
    """Through the proxy, as a client with the node's name."""
    async with through(proxy, kubeconfig, node) as opened:
        yield opened


@pytest.fixture
def fence(connection: Connection) -> FenceApi:
    """The writes of a change."""
    return client_of(connection).fence()


def has_fence(control_plane: ControlPlane, node: str) -> bool:
    """Whether the Node carries the fence's label."""
    return FENCE_LABEL in control_plane.api.get(f"/api/v1/nodes/{node}")["metadata"]["labels"]


async def insistently(write: Callable[[], Awaitable[object]], tries: int = 40) -> int:
    """Write until it is confirmed, as CDMO's loops do round by round; how many tries failed."""
    for failed in range(tries):
        try:
            await write()
        except ClusterError as error:
            assert error.retryable, error
        else:
            return failed
    raise AssertionError(f"{tries} tries failed")


async def given_up(proxy: ApiProxy, node: str, write: Callable[[], Awaitable[object]]) -> None:
    """Begin a write that the network holds back, and give it up."""
    sent = proxy.seen(clients=[node], verbs=["patch"])
    number = proxy.slow(None, before=True, clients=[node], verbs=["patch"], times=1)
    task = asyncio.ensure_future(write())
    await until(lambda: proxy.seen(clients=[node], verbs=["patch"]) > sent)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    proxy.remove(number)


async def test_a_fence_whose_removal_comes_late_stays_up_for_the_next_change(
    proxy: ApiProxy, fence: FenceApi, control_plane: ControlPlane, node: str
) -> None:
    await fence.set_labels(node, FENCED)
    await given_up(proxy, node, lambda: fence.set_labels(node, UNFENCED))
    await fence.set_labels(node, UNFENCED)
    await fence.set_labels(node, FENCED)
    late = proxy.counts()["late request"]
    proxy.clear()  # now the network delivers the first removal
    await fence.set_taint(node, REPARTITIONING_TAINT, EFFECT)
    await until(lambda: not proxy.held(), 10.0)
    assert late >= 1
    assert has_fence(control_plane, node)


async def test_a_capacity_that_comes_late_does_not_replace_a_newer_one(
    proxy: ApiProxy, fence: FenceApi, control_plane: ControlPlane, node: str
) -> None:
    resource = "nvidia.com/mig-1g.10gb"
    await given_up(proxy, node, lambda: fence.set_mig_capacity(node, {resource: 7}, {resource: 7}))
    await fence.set_mig_capacity(node, {resource: 2}, {resource: 0})
    proxy.clear()
    await until(lambda: not proxy.held(), 10.0)
    status = control_plane.api.get(f"/api/v1/nodes/{node}")["status"]
    assert (status["capacity"][resource], status["allocatable"][resource]) == ("2", "0")


async def test_writes_of_a_change_are_done_once_however_often_their_answers_are_lost(
    proxy: ApiProxy, fence: FenceApi, control_plane: ControlPlane, node: str
) -> None:
    resource = "nvidia.com/mig-1g.10gb"
    proxy.lose_answers(clients=[node], share=0.7)
    proxy.answer(500, clients=[node], share=0.2)
    proxy.answer(429, retry_after=1, clients=[node], share=0.1)
    for _ in range(3):
        await insistently(lambda: fence.set_labels(node, FENCED))
        await insistently(lambda: fence.set_taint(node, REPARTITIONING_TAINT, EFFECT))
        await insistently(lambda: fence.set_mig_capacity(node, {resource: 7}, {resource: 3}))
        host = control_plane.api.get(f"/api/v1/nodes/{node}")
        assert [each["key"] for each in host["spec"]["taints"]].count(REPARTITIONING_TAINT) == 1
        assert host["metadata"]["labels"][FENCE_LABEL] == FENCE_VALUE
        assert (host["status"]["capacity"][resource], host["status"]["allocatable"][resource]) == ("7", "3")
        await insistently(lambda: fence.remove_taint(node, REPARTITIONING_TAINT))
        await insistently(lambda: fence.set_labels(node, UNFENCED))
        assert not has_fence(control_plane, node)
    assert proxy.counts()["lost answer"] >= 1


async def test_an_event_whose_answer_is_lost_is_written_once(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, node: str
) -> None:
    recorder = client_of(connection).recorder("cdmo-agent", node)
    task = asyncio.create_task(recorder.run())
    proxy.lose_answers(clients=[node], resources=["events"], times=1)
    try:
        for note in ("first", "second"):
            recorder.emit(Event(Involved("Node", node), EventReason.REPARTITIONED, note))
        await until(lambda: set(notes(control_plane, node)) == {"first", "second"})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sorted(notes(control_plane, node)) == ["first", "second"]
    assert recorder.dropped == 0


def notes(control_plane: ControlPlane, node: str) -> list[str]:
    """What the agent's Events say about the node; the controller manager tells of new nodes as well."""
    found = control_plane.api.get("/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    of_node = (each for each in found if each["regarding"]["name"] == node)
    return [each["note"] for each in of_node if each.get("reportingController") == "cdmo-agent"]


@pytest.fixture
async def crd(control_plane: ControlPlane) -> None:
    """MigNodes are known to the API server."""
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", stdin=yaml_text())
    wait = ("wait", "--for=condition=Established", "crd/mignodes.cdmo.clear.ml", "--timeout=30s")
    await asyncio.to_thread(control_plane.kubectl, *wait)


def spec(start: int) -> MigNodeSpec:
    """A layout of one slice."""
    layout = (PlacedProfile(profile_id=9, start=start),)
    return MigNodeSpec(observed_revision=1, gpus=(GpuLayout(pci_bus_id="00000000:10:00.0", layout=layout),))


@pytest.mark.usefixtures("crd")
async def test_a_mignode_whose_creation_was_not_confirmed_is_there_once(
    proxy: ApiProxy, connection: Connection, node: str
) -> None:
    api = client_of(connection).mig_nodes()
    proxy.lose_answers(clients=[node], times=1)
    with pytest.raises(ClusterUnavailable):
        await api.create(MigNode(metadata=Metadata(name=node)))
    with pytest.raises(AlreadyExists):
        await api.create(MigNode(metadata=Metadata(name=node)))


@pytest.mark.usefixtures("crd")
async def test_a_spec_that_was_not_confirmed_or_comes_late_never_replaces_a_newer_one(
    proxy: ApiProxy, connection: Connection, node: str
) -> None:
    api = client_of(connection).mig_nodes()
    made = await api.create(MigNode(metadata=Metadata(name=node)))
    proxy.lose_answers(clients=[node], times=1)
    with pytest.raises(ClusterUnavailable):
        await api.write_spec(node, spec(0), made.metadata.resource_version)
    with pytest.raises(Conflict):  # it was carried out: planning goes on from what is there
        await api.write_spec(node, spec(0), made.metadata.resource_version)
    now = await api.get(node)
    assert now.spec.gpus == spec(0).gpus
    await given_up(proxy, node, lambda: api.write_spec(node, spec(4), now.metadata.resource_version))
    newest = await api.write_spec(node, spec(2), now.metadata.resource_version)
    proxy.clear()
    await until(lambda: not proxy.held(), 10.0)
    assert await api.get(node) == newest


@pytest.mark.usefixtures("crd")
async def test_a_status_is_whole_however_often_it_was_written(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, node: str
) -> None:
    api = client_of(connection).mig_nodes()
    await api.create(MigNode(metadata=Metadata(name=node)))
    proxy.lose_answers(clients=[node], share=0.6)
    proxy.answer(503, clients=[node], share=0.3)
    for revision in range(1, 6):
        status = MigNodeStatus(revision=revision, summary=Summary(gpus=1, slices=f"0/{revision}", phase="Ready"))
        await insistently(partial(api.write_status, node, status))
        stored = control_plane.api.get(f"/apis/cdmo.clear.ml/v1alpha1/mignodes/{node}")["status"]
        assert (stored["revision"], stored["summary"]["slices"]) == (revision, f"0/{revision}")
