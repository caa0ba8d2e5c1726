"""The fence policy and the fence's requests on a real API server."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import structlog
from cdmo_harness.control_plane import ControlPlane

from cdmo.errors import ClusterError, ClusterUnavailable, Denied
from cdmo.kube.connect import Connection, ConnectSettings, connect
from cdmo.kube.port import FenceApi
from cdmo.kube.resources import NODE, POD, Ask, Kind
from cdmo.model.cluster import Taint
from cdmo.model.names import (
    FENCE_CHANGING,
    FENCE_LABEL,
    FENCE_VALUE,
    PROBE_NAMESPACE,
    REPARTITIONING_TAINT,
)
from tests.kube.objects import container, node_json
from tests.kube.real import (
    FENCE_MANIFEST,
    NAMESPACE,
    as_administrator,
    client_of,
    create,
    create_pod,
    eventually,
    fence_stands,
    put_fence,
)

log = structlog.get_logger(__name__)

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio, pytest.mark.timeout(120)]


@pytest_asyncio.fixture
async def connection(control_plane: ControlPlane) -> AsyncIterator[Connection]:
    """The administrator's, on a control plane with the fence policy."""
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", str(FENCE_MANIFEST))
    async with as_administrator(control_plane) as opened:
        yield opened


async def fenced_node(connection: Connection, name: str) -> FenceApi:
    """A node behind a fence that was seen to stand."""
    await create(connection, NODE, node_json(name))
    fence = client_of(connection).fence()
    await put_fence(fence, name, True)
    await fence_stands(fence, name, connection.server, True)
    return fence


def asking_pod(name: str, node: str, **spec: Any) -> Any:
    """A pod that comes with its node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "registry.example/app"}], "nodeName": node, **spec},
    }


async def test_the_fence_stands_and_is_gone_within_moments_of_the_label(connection: Connection) -> None:
    name = "fence-timing"
    fence = await fenced_node(connection, name)
    up: list[float] = []
    down: list[float] = []
    for _ in range(20):
        for standing, times in ((False, down), (True, up)):
            await put_fence(fence, name, standing)
            began = time.monotonic()
            await fence_stands(fence, name, connection.server, standing)
            times.append(time.monotonic() - began)
    for what, times in (("stands", up), ("gone", down)):
        log.info(f"fence {what}", median_s=round(statistics.median(times), 4), worst_s=round(max(times), 4))
    assert statistics.median(up) < 1
    assert statistics.median(down) < 1


async def test_the_fence_does_not_flicker_when_its_label_changes_value(connection: Connection) -> None:
    fence = await fenced_node(connection, "flicker")
    await fence.set_taint("flicker", REPARTITIONING_TAINT, "NoSchedule")
    for _ in range(10):
        for before, after in ((FENCE_VALUE, FENCE_CHANGING), (FENCE_CHANGING, FENCE_VALUE)):
            swap = asyncio.create_task(
                fence.swap_label("flicker", FENCE_LABEL, before, after, beside=REPARTITIONING_TAINT)
            )
            while not swap.done():
                assert await fence.refused_as_of("flicker", connection.server)
            assert await swap
            for _ in range(10):
                assert await fence.refused_as_of("flicker", connection.server)


async def put_number(fence: FenceApi, node: str, number: int) -> int:
    """A write of the Node; its version."""
    labels = {"example.com/number": str(number)}
    _, version = await fence.set_taint(node, REPARTITIONING_TAINT, "NoSchedule", lambda _: labels)
    return version


async def test_a_refusal_names_the_version_of_the_node_that_the_api_server_knows(connection: Connection) -> None:
    fence = await fenced_node(connection, "versions")
    for number in range(5):
        written = await put_number(fence, "versions", number)

        async def caught_up(written: int = written) -> bool:
            known = await fence.refused_as_of("versions", connection.server)
            return known is not None and known >= written

        await eventually(caught_up)


async def test_only_the_fenced_node_refuses_and_a_real_pod_is_kept_off_it(connection: Connection) -> None:
    fence = await fenced_node(connection, "fenced")
    await create(connection, NODE, node_json("free"))
    assert await fence.refused_as_of("free", connection.server) is None
    await create_pod(connection, "to-bind")
    ask = Ask("create", POD, "to-bind", "default", "binding")
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "to-bind"}, "target": {"kind": "Node"}}
    with pytest.raises(Denied, match="node fenced is being repartitioned by CDMO"):
        await connection.call(ask, body=msgspec.json.encode({**body, "target": {"kind": "Node", "name": "fenced"}}))
    await connection.call(ask, body=msgspec.json.encode({**body, "target": {"kind": "Node", "name": "free"}}))


@pytest.mark.parametrize("where", ["containers", "initContainers"])
async def test_a_pod_that_comes_with_its_node_is_refused_only_when_it_asks_for_devices(
    connection: Connection, where: str
) -> None:
    node = f"direct-{where.lower()}"
    await fenced_node(connection, node)
    await create(connection, POD, asking_pod("harmless", node), namespace="default", dry_run=True)
    devices = asking_pod("asks", node, **{where: [{**container(mig_1g="1"), "name": "asking"}]})
    with pytest.raises(Denied, match=f"node {node} is being repartitioned"):
        await create(connection, POD, devices, namespace="default", dry_run=True)


async def test_cdmos_own_pods_pass_its_fence_and_the_probe_is_not_in_their_namespace(connection: Connection) -> None:
    await fenced_node(connection, "own")
    await create(connection, NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cdmo"}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": "cdmo"}}
    await create(connection, Kind("ServiceAccount", "serviceaccounts", namespaced=True), account, namespace="cdmo")
    await create_pod(connection, "agent", namespace="cdmo", serviceAccountName="agent")
    ask = Ask("create", POD, "agent", "cdmo", "binding")
    body = {"metadata": {"name": "agent"}, "target": {"kind": "Node", "name": "own"}}
    await connection.call(ask, body=msgspec.json.encode({"apiVersion": "v1", "kind": "Binding", **body}))
    assert PROBE_NAMESPACE != "cdmo"


async def test_missing_rights_are_never_taken_for_a_fence(
    connection: Connection, control_plane: ControlPlane
) -> None:
    await fenced_node(connection, "no-rights")
    nobody = await asyncio.to_thread(control_plane.service_account_kubeconfig, "default", "default")
    async with connect(ConnectSettings(kubeconfig=nobody), {}) as other:
        with pytest.raises(Denied, match="cannot create resource"):
            await client_of(other).fence().refused_as_of("no-rights", other.server)


async def test_a_pod_with_the_probes_name_is_a_fault_that_is_named(connection: Connection) -> None:
    await create(connection, NODE, node_json("named"))
    fence = client_of(connection).fence()
    await create_pod(connection, "cdmo-fence-probe")
    try:
        with pytest.raises(ClusterError, match="a pod default/cdmo-fence-probe exists"):
            await fence.refused_as_of("named", connection.server)
    finally:
        await connection.call(Ask("delete", POD, "cdmo-fence-probe", "default"), params={"gracePeriodSeconds": "0"})


async def test_many_writers_of_taints_lose_nothing(connection: Connection) -> None:
    await create(connection, NODE, node_json("taints"))
    fence = client_of(connection).fence()
    keys = [f"example.com/k{number}" for number in range(5)]
    await asyncio.gather(*(fence.set_taint("taints", key, "NoSchedule") for key in keys))
    found = (await fence.node("taints")).taints
    assert {one for one in found if one.key in keys} == {Taint(key, "", "NoSchedule") for key in keys}
    await asyncio.gather(*(fence.remove_taint("taints", key) for key in keys))
    assert not [one for one in (await fence.node("taints")).taints if one.key in keys]


async def test_capacity_is_written_and_everything_else_of_the_status_kept(connection: Connection) -> None:
    await create(connection, NODE, node_json("capacity", capacity={"cpu": "8"}, allocatable={"cpu": "7500m"}))
    fence = client_of(connection).fence()
    mig = {"nvidia.com/mig-1g.10gb": 7, "nvidia.com/mig-3g.40gb": 0}
    lowered = {**mig, "nvidia.com/mig-1g.10gb": 2}
    await fence.set_mig_capacity("capacity", mig, lowered)
    node = await fence.node("capacity")
    assert node.capacity == {"cpu": 8000, **mig}
    assert node.allocatable == {"cpu": 7500, **lowered}
    assert node.ready


async def test_bound_and_nominated_pods_are_found(connection: Connection) -> None:
    fence = client_of(connection).fence()
    await create(connection, NODE, node_json("pods"))
    await create_pod(connection, "is-bound", nodeName="pods")
    await create_pod(connection, "is-nominated")
    body = msgspec.json.encode({"status": {"nominatedNodeName": "pods"}})
    ask = Ask("patch", POD, "is-nominated", "default", "status")
    await connection.call(ask, body=body, content_type="application/merge-patch+json")
    found = await fence.pods_on("pods")
    assert [(one.key.name, one.node_name, one.nominated_node) for one in found] == [
        ("is-bound", "pods", ""),
        ("is-nominated", "", "pods"),
    ]


async def test_another_address_of_the_server_is_trusted_under_the_configured_name(
    connection: Connection, control_plane: ControlPlane
) -> None:
    await create(connection, NODE, node_json("siblings"))
    # The same server at an address that its certificate does not name.
    sibling = connection.server.replace("127.0.0.1", "[::ffff:127.0.0.1]")
    assert await client_of(connection).fence().refused_as_of("siblings", sibling) is None
    configured = control_plane.directory / "sibling.kubeconfig"
    configured.write_text(control_plane.admin_kubeconfig.read_text().replace(connection.server, sibling))
    async with connect(ConnectSettings(kubeconfig=configured), {}) as stranger:
        with pytest.raises(ClusterUnavailable) as caught:
            await stranger.check()
    assert "CA" in caught.value.hint


async def test_the_api_servers_are_the_configured_one_and_what_the_cluster_lists(connection: Connection) -> None:
    servers = await client_of(connection).fence().api_servers()
    assert servers[0] == connection.server
    assert all(one.startswith("https://") for one in servers)
