"""Waiting for the end of changes on an API server of loopback, and holding the controllers' Lease meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cdmo.doctor.settling import Remains
from cdmo.errors import ChangeStuck, ClusterUnavailable, Conflict, Denied, Invalid
from cdmo.kube.connect import Connection
from cdmo.kube.lease import LeaseElector, LeaseTimes
from cdmo.kube.settling import AFTERWARDS, HOLDER, PAUSE, PlanningHold, settle
from tests.fakes import faults
from tests.fakes.api_server import Exchange, FakeApiServer
from tests.fakes.api_store import Address, Refused
from tests.fakes.clock import HastyClock, VirtualClock
from tests.kube.objects import connection_to, node_json
from tools.generate_access import HOOKS, documents, grants

pytestmark = pytest.mark.asyncio

LEASE = "apis/coordination.k8s.io/v1/namespaces/cdmo/leases/cdmo-controller"
NODE = "api/v1/nodes/gpu-1"
WAIT = 10.0


class Site:
    """A node with the label and its MigNode, an API server and a clock on which every wait ends at once."""

    def __init__(self, server: FakeApiServer, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.clock = HastyClock()
        self.node()
        self.mignode()

    def node(self, fence: str = "") -> None:
        """Store it with this value of the fence's label."""
        found = node_json("gpu-1")
        found["metadata"]["labels"] = {"cdmo.clear.ml/gpu-partitioning": "mig"}
        if fence:
            found["metadata"]["labels"]["cdmo.clear.ml/fenced"] = fence
        self.server.store.apply(NODE, found)

    def mignode(self) -> None:
        """Store it, with an agent that is alive."""
        heartbeat = datetime.fromtimestamp(self.clock.now(), UTC).isoformat()
        status = {"agent": {"version": "0.1.0", "heartbeat": heartbeat}}
        path = "apis/cdmo.clear.ml/v1alpha1/mignodes/gpu-1"
        self.server.store.apply(path, {"metadata": {"name": "gpu-1"}, "spec": {}, "status": status})

    def lease(self, holder: str) -> None:
        """Store the controllers' Lease."""
        self.server.store.apply(LEASE, {"spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})

    def held(self) -> dict[str, Any]:
        """The Lease's spec."""
        return dict(self.server.store.objects[Address.parse(LEASE)]["spec"])

    def hold(self) -> PlanningHold:
        return PlanningHold(self.connection, "cdmo", self.clock)

    async def settle(self, hold: PlanningHold | None = None, wait: float = WAIT) -> Remains:
        return await settle(self.connection, self.clock, wait, hold)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        yield Site(server, connection)


async def test_a_cluster_at_rest_is_settled_at_once(site: Site) -> None:
    assert (await site.settle()).labelled == ("gpu-1",)
    assert site.clock.slept == []
    assert [each.verb for each in site.server.requests] == ["list", "list"]


async def test_a_fence_that_goes_in_time_is_waited_for(site: Site) -> None:
    site.node("changing")

    async def lowered(exchange: Exchange) -> None:
        site.node()
        await exchange.server.serve(exchange)

    site.server.script("list", *[site.server.serve] * 4, lowered)
    assert (await site.settle()).labelled == ("gpu-1",)
    assert site.clock.slept == [PAUSE, PAUSE]


async def test_a_fence_that_stays_is_a_failure_that_names_the_node_and_the_way_out(site: Site) -> None:
    site.node("changing")
    with pytest.raises(ChangeStuck) as failure:
        await site.settle()
    assert str(failure.value) == (
        "1 node is in the middle of a change after 10 s (gpu-1: its GPUs are being changed)"
    )
    assert "helm uninstall --no-hooks" in failure.value.hint
    assert sum(site.clock.slept) == WAIT


async def test_without_patience_there_is_one_look(site: Site) -> None:
    site.node("true")
    with pytest.raises(ChangeStuck):
        await site.settle(wait=0)
    assert site.clock.slept == []


async def test_of_many_nodes_three_are_named(site: Site) -> None:
    for number in range(2, 6):
        found = node_json(f"gpu-{number}")
        found["metadata"]["labels"] = {"cdmo.clear.ml/fenced": "true"}
        site.server.store.apply(f"api/v1/nodes/gpu-{number}", found)
    with pytest.raises(ChangeStuck, match=r"4 nodes are .* \(gpu-2: .*; gpu-3: .*; gpu-4: .*; and 1 more\)"):
        await site.settle(wait=0)


async def test_more_nodes_than_a_page_are_all_looked_at(site: Site) -> None:
    for number in range(600):
        site.server.store.apply(f"api/v1/nodes/cpu-{number:03}", node_json(f"cpu-{number:03}"))
    last = node_json("zz")
    last["spec"] = {"taints": [{"key": "cdmo.clear.ml/repartitioning", "effect": "NoSchedule"}]}
    site.server.store.apply("api/v1/nodes/zz", last)
    with pytest.raises(ChangeStuck, match=r"\(zz: its fence is up"):
        await site.settle(wait=0)


async def test_a_cluster_that_knows_no_mignodes_is_settled(site: Site) -> None:
    serve = site.server.serve
    site.server.script("list", serve, faults.answer(404, "NotFound"))
    assert (await site.settle()).mig_nodes == 0


async def test_a_busy_api_server_is_asked_again(site: Site) -> None:
    site.server.script("list", faults.answer(503, "ServiceUnavailable"))
    assert (await site.settle()).labelled == ("gpu-1",)
    assert site.clock.slept == [PAUSE]


async def test_an_api_server_that_stays_busy_is_a_failure(site: Site) -> None:
    site.server.script("list", *[faults.answer(503, "ServiceUnavailable")] * 20)
    with pytest.raises(ClusterUnavailable):
        await site.settle()
    assert sum(site.clock.slept) == WAIT


async def test_a_refusal_is_no_answer(site: Site) -> None:
    site.server.script("list", faults.answer(403, "Forbidden"))
    with pytest.raises(Denied):
        await site.settle()


async def test_an_odd_node_is_a_failure_and_not_taken_for_one_at_rest(site: Site) -> None:
    site.server.script("list", faults.body(b'{"metadata":{},"items":[{"metadata":{"name":7}}]}'))
    with pytest.raises((Invalid, ClusterUnavailable)):
        await site.settle()


async def test_planning_is_held_until_its_last_leader_has_stopped_and_the_controllers_are_gone(site: Site) -> None:
    site.lease("controller-a")
    await site.settle(site.hold(), wait=2)
    assert sum(site.clock.slept) == LeaseTimes().renew_s
    for_the_wait, for_the_uninstall = (each.json()["spec"] for each in site.server.asked("patch"))
    assert for_the_wait["leaseDurationSeconds"] == 2 + LeaseTimes().renew_s + AFTERWARDS
    assert site.held() == for_the_uninstall
    assert (site.held()["holderIdentity"], site.held()["leaseDurationSeconds"]) == (HOLDER, AFTERWARDS)


@pytest.mark.parametrize("holder", ["", HOLDER])
async def test_nobody_is_waited_for_where_nobody_led(site: Site, holder: str) -> None:
    site.lease(holder)
    await site.settle(site.hold())
    assert site.clock.slept == []
    assert site.held()["holderIdentity"] == HOLDER


async def test_where_no_controller_ever_led_there_is_nothing_to_hold(site: Site) -> None:
    await site.settle(site.hold())
    assert Address.parse(LEASE) not in site.server.store.objects


async def test_a_lease_that_is_renewed_in_between_is_taken_all_the_same(site: Site) -> None:
    site.lease("controller-a")
    site.server.script("patch", *[faults.answer(409, "Conflict")] * 3)
    await site.settle(site.hold())
    assert site.held()["holderIdentity"] == HOLDER


async def test_a_lease_that_cannot_be_had_is_a_failure(site: Site) -> None:
    site.lease("controller-a")
    site.server.script("patch", *[faults.answer(409, "Conflict")] * 50)
    with pytest.raises(Conflict, match="the Lease cdmo/cdmo-controller could not be taken"):
        await site.settle(site.hold())


async def test_after_a_failure_the_controllers_may_plan_at_once(site: Site) -> None:
    site.lease("controller-a")
    site.node("changing")
    with pytest.raises(ChangeStuck):
        await site.settle(site.hold())
    assert (site.held()["holderIdentity"], site.held()["leaseDurationSeconds"]) == ("", 1)


async def test_a_controller_that_led_again_before_the_last_look_is_a_failure(site: Site) -> None:
    site.lease("")

    async def led_again(exchange: Exchange) -> None:
        site.lease("controller-b")
        await exchange.server.serve(exchange)

    site.server.script("list", led_again)
    with pytest.raises(Conflict, match="a controller planned again before the last look"):
        await site.settle(site.hold())
    assert site.held()["holderIdentity"] == ""


async def test_a_lease_that_somebody_took_from_us_is_left_to_them(site: Site) -> None:
    site.lease("controller-b")
    await site.hold().give_back()
    assert site.held()["holderIdentity"] == "controller-b"


async def test_what_went_wrong_is_told_also_when_the_lease_cannot_be_given_back(site: Site) -> None:
    site.lease("")
    site.node("changing")
    serve = site.server.serve
    site.server.script("patch", serve, faults.answer(500, "InternalError"))
    with pytest.raises(ChangeStuck):
        await site.settle(site.hold())


@asynccontextmanager
async def controller(site: Site, clock: VirtualClock) -> AsyncIterator[LeaseElector]:
    """A controller's part in the election."""
    elector = LeaseElector(
        site.connection, "cdmo", "cdmo-controller", "controller-a", clock=clock, random=lambda: 0.5
    )
    task = asyncio.create_task(elector.run())
    try:
        yield elector
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_real_controller_stops_leading_and_leads_again_when_the_time_is_over(site: Site) -> None:
    clock = VirtualClock()
    async with asyncio.timeout(10), controller(site, clock) as elector:
        await clock.sleeping()
        assert elector.is_leader()
        stops_after = await PlanningHold(site.connection, "cdmo", clock).take(60)

        async def pass_time(seconds: float) -> None:
            for _ in range(round(seconds * 2)):
                await clock.advance(0.5)
                await clock.sleeping()

        await pass_time(stops_after)
        assert not elector.is_leader()
        await pass_time(50)
        assert not elector.is_leader()
        await pass_time(5)
        assert elector.is_leader()


_VERBS = {"patch": "patch", "get": "get", "list": "list", "post": "create"}


async def test_the_hooks_account_has_exactly_the_rights_that_are_asked_for(site: Site) -> None:
    site.lease("controller-a")
    site.node("changing")
    with pytest.raises(ChangeStuck):
        await site.settle(site.hold())
    asked = set()
    for request in site.server.requests:
        address = Address.parse(request.path)
        group = address.prefix.split("/")[1] if address.prefix.startswith("apis/") else ""
        asked.add((_VERBS[request.verb], group, address.plural, address.namespace, address.name))
    granted = [each for each in grants(list(documents(HOOKS))) if each.account == "cdmo-settle"]
    assert asked == {(each.verb, each.group, each.resource, each.namespace, each.name) for each in granted}


async def test_a_refused_lease_is_told_before_anything_is_waited_for(site: Site) -> None:
    async def refused(exchange: Exchange) -> None:
        await exchange.refuse(Refused(403, "Forbidden", "leases is forbidden"))

    site.server.script("get", refused)
    with pytest.raises(Denied, match="Lease cdmo/cdmo-controller"):
        await site.settle(site.hold())
    assert site.clock.slept == []
