"""The controller's rounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from cdmo.api.v1alpha1 import GpuLayout, ObservedDevice, PlacedProfile
from cdmo.errors import ClusterUnavailable, Denied
from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.model.reasons import EventReason
from cdmo.model.snapshot import Snapshot
from cdmo.planner import Planner
from tests.builders import BUS, IDLE, assigned, h100, key, node, pod
from tests.controller.bench import Bench
from tests.planner.expect import Judged

TRAIN = pod("train", "7g.80gb")


async def test_a_pod_gets_a_layout_a_promise_and_an_event() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    assert bench.specs() == {"gpu-1": {BUS[0]: [(0, 0)]}}
    assert bench.api.nodes["gpu-1"].spec.observed_revision == 7
    assert bench.promises.assignments() == (assigned("train", "gpu-1", "7g.80gb@0"),)
    (event,) = bench.events.events
    assert (event.reason, event.involved.name) == (EventReason.PLANNED, "train")


@pytest.mark.parametrize("kind", ["pods", "nodes", "mignodes"])
async def test_nothing_is_planned_before_every_mirror_has_seen_a_full_list(kind: str) -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.synced[kind] = False
    await bench.loop.round()
    assert bench.api.calls == []


async def test_nothing_is_planned_while_another_leads() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.leading = False
    await bench.loop.round()
    assert bench.api.calls == []


async def test_a_leader_that_lost_the_lease_while_it_planned_publishes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    plan = Planner.plan

    def slow_plan(self: Planner, snapshot: Snapshot, policy: Policy) -> Plan:
        bench.leading = False
        return plan(self, snapshot, policy)

    monkeypatch.setattr(Planner, "plan", slow_plan)
    await bench.loop.round()
    assert bench.api.calls == []


async def test_a_pod_the_scheduler_has_not_judged_is_not_planned() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[replace(TRAIN, unschedulable=False)])
    await bench.loop.round()
    assert bench.api.calls == []
    assert bench.events.events == []


async def test_each_labelled_node_gets_its_mignode_once() -> None:
    bench = Bench()
    bench.nodes = {"gpu-1": node("gpu-1").node, "plain": replace(node("plain").node, labels={})}
    await bench.loop.round()
    await bench.loop.round()
    assert bench.api.calls == ["create gpu-1"]


async def test_the_same_question_again_writes_and_says_nothing_new() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN, pod("second", "7g.80gb", created=1e12)])
    await bench.loop.round()
    calls, said = list(bench.api.calls), list(bench.events.events)
    await bench.loop.round()
    assert bench.api.calls == calls
    assert bench.events.events == said


async def test_a_waiting_pod_is_told_once_and_again_when_the_reason_changes() -> None:
    bench = Bench(node("gpu-1", [h100(slices={"7g.80gb@0": "ml/old"})]), pods=[TRAIN])
    for _ in range(3):
        await bench.loop.round()
    (first,) = bench.events.of(EventReason.WAITING)
    assert first.message.startswith("NoRoom: ")
    bench.nodes["gpu-1"] = replace(bench.nodes["gpu-1"], unschedulable=True)
    for _ in range(3):
        await bench.loop.round()
    _, second = bench.events.of(EventReason.WAITING)
    assert second.message != first.message


async def test_a_hand_broken_spec_is_written_anew_with_every_slice_in_use() -> None:
    bench = Bench(node("gpu-1", [h100(slices={"3g.40gb@4": "ml/old", "1g.10gb@0": IDLE})]))
    overlapping = (PlacedProfile(profile_id=9, start=4), PlacedProfile(profile_id=0, start=0))
    mignode = bench.api.nodes["gpu-1"]
    bench.api.set_spec("gpu-1", changed(mignode.spec, gpus=(GpuLayout(pci_bus_id=BUS[0], layout=overlapping),)))
    bench.pods["ml/new"] = pod("new", "3g.40gb")
    await bench.loop.round()
    assert bench.specs()["gpu-1"][BUS[0]] == [(9, 0), (9, 4)]


async def test_a_plan_that_breaks_a_rule_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    monkeypatch.setattr(Judged, "plan", lambda *_: Plan())
    await bench.loop.round()
    assert bench.api.calls == []
    assert bench.promises.assignments() == ()
    assert bench.events.events == []


async def test_a_pod_left_by_the_scheduler_is_planned_elsewhere_when_patience_ends() -> None:
    bench = Bench(node("gpu-1", [h100()]), node("gpu-2", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    assert [each.node for each in bench.promises.assignments()] == ["gpu-1"]
    bench.clock.jump(29.9)
    await bench.loop.round()
    assert bench.specs()["gpu-2"] == {}
    bench.clock.jump(0.1)
    await bench.loop.round()
    assert [each.node for each in bench.promises.assignments()] == ["gpu-2"]
    assert bench.specs()["gpu-2"] == {BUS[0]: [(0, 0)]}
    (told,) = bench.events.of(EventReason.WAITING)
    assert "cut on node gpu-1" in told.message


async def test_a_wall_clock_that_is_set_does_not_end_anybodys_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(node("gpu-1", [h100()]), node("gpu-2", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    monkeypatch.setattr(bench.clock, "now", lambda: 4e9)
    await bench.loop.round()
    assert [each.node for each in bench.promises.assignments()] == ["gpu-1"]


async def test_a_promise_ends_with_the_pods_wait() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    bench.pods["ml/train"] = replace(TRAIN, node_name="gpu-1", unschedulable=False, phase="Running")
    await bench.loop.round()
    assert bench.promises.assignments() == ()


async def test_a_node_that_cannot_be_written_gets_no_promise_and_holds_nobody_up() -> None:
    other, nobody = (pod(name, "7g.80gb", created=1e12) for name in ("other", "third"))
    bench = Bench(node("gpu-1", [h100()]), node("gpu-2", [h100()]), pods=[TRAIN, other, nobody])
    bench.api.fails["write_spec"] = [Denied("not allowed")]
    await bench.loop.round()
    assert [each.node for each in bench.promises.assignments()] == ["gpu-2"]
    assert [each.involved.name for each in bench.events.of(EventReason.PLANNED)] == ["other"]
    assert [each.involved.name for each in bench.events.of(EventReason.WAITING)] == ["third"]
    await bench.loop.round()
    assert {each.pod for each in bench.promises.assignments()} == {key("train"), key("other")}


async def test_a_promise_stands_although_its_node_could_not_be_written_for_somebody_else() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[pod("train", "3g.40gb")])
    await bench.loop.round()
    promised = bench.promises.assignments()
    bench.pods["ml/other"] = pod("other", "3g.40gb", created=1e12)
    bench.api.fails["write_spec"] = [ClusterUnavailable("no answer")]
    await bench.loop.round()
    assert bench.promises.assignments() == promised


async def run_for_a_while(bench: Bench, seconds: float) -> list[float]:
    """The times of the rounds of a running loop, on its virtual clock."""
    times: list[float] = []
    original = bench.loop.round

    async def noted() -> None:
        times.append(bench.clock.monotonic())
        await original()

    bench.loop.round = noted  # type: ignore[method-assign]
    task = asyncio.create_task(bench.loop.run())
    for _ in range(int(seconds / 0.05)):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await bench.clock.advance(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return times


async def test_a_node_that_refuses_every_write_does_not_make_rounds_spin() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.api.fails["write_spec"] = [Denied("not allowed") for _ in range(100)]
    bench.trigger.pull()
    assert len(await run_for_a_while(bench, 2.0)) == 1


async def test_an_overdue_promise_does_not_make_rounds_spin_while_another_leads() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    bench.clock.jump(1000.0)
    bench.leading = False
    assert await run_for_a_while(bench, 2.0) == []


async def test_a_failing_api_server_ends_no_loop() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    rounds = 0

    async def failing() -> None:
        nonlocal rounds
        rounds += 1
        bench.trigger.pull()
        raise ClusterUnavailable("no answer")

    bench.loop.round = failing  # type: ignore[method-assign]
    bench.trigger.pull()
    task = asyncio.create_task(bench.loop.run())
    for _ in range(3):
        await bench.clock.sleeping()
        await bench.clock.advance(0.05)
    assert not task.done()
    assert rounds >= 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def overtake(bench: Bench) -> None:
    """The agent has just cut what an earlier plan asked for, and that is in the way of the present one."""
    status = bench.api.nodes["gpu-1"].status
    late = ObservedDevice(profile_id=9, start=4, uuid="MIG-late", state="Idle", revision=8)
    bench.api.set_status("gpu-1", changed(status, revision=8, gpus=(changed(status.gpus[0], devices=(late,)),)))


async def test_an_instance_that_overtook_its_layout_is_seen_and_the_agent_told_so_once() -> None:
    """The layout stays as it is; without this word the agent would leave the instance alone for ever, and wait."""
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    overtake(bench)
    await bench.loop.round()
    assert bench.specs() == {"gpu-1": {BUS[0]: [(0, 0)]}}
    assert bench.api.nodes["gpu-1"].spec.observed_revision == 8
    written = len(bench.written())
    await bench.loop.round()
    assert len(bench.written()) == written


async def test_an_instance_on_a_node_that_takes_no_part_in_plans_stays_unseen() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    await bench.loop.round()
    overtake(bench)
    bench.nodes["gpu-1"] = replace(bench.nodes["gpu-1"], labels={})
    await bench.loop.round()
    assert bench.api.nodes["gpu-1"].spec.observed_revision == 7
