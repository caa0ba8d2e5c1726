"""The agent's rounds: when it changes the node, and when it leaves it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdmo.api.convert import Layouts, layouts_to_spec
from cdmo.api.v1alpha1 import MigNodeSpec
from cdmo.errors import ClusterUnavailable, DriverUnavailable, KubeletUnavailable, LibraryMismatch
from cdmo.model.cluster import carries_fence
from cdmo.model.reasons import EventReason
from tests.agent.bench import NAME, AgentBench
from tests.agent.cards import OTHER_BUS
from tests.agent.nodes import BUS, SEVEN, THREE, THREE_HIGH, THREE_LOW, pod
from tests.fakes.hardware import fake_gpus

WHOLE = "nvidia.com/mig-7g.80gb"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    """One idle 7g slice, seen and reported."""
    made = AgentBench(tmp_path, SEVEN)
    yield made
    made.rig.worker.close()


async def seen(bench: AgentBench) -> None:
    await bench.round()
    bench.want(SEVEN)


async def test_a_changed_spec_changes_the_node_and_tells_of_it(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(THREE_LOW, THREE_HIGH)
    await bench.round()
    assert bench.rig.layout() == {THREE_LOW, THREE_HIGH}
    assert not carries_fence(bench.node.info)
    repartition = bench.status.last_repartition
    assert repartition is not None
    assert (repartition.result, repartition.count) == ("Applied", 1)
    assert (bench.condition().status, bench.condition("Repartitioning").status) == ("True", "False")
    assert [each.summary.phase for each in bench.api.statuses] == ["Ready", "Repartitioning", "Ready"]
    assert [each.reason for each in bench.events.events] == [EventReason.REPARTITIONED]


async def test_nothing_to_do_raises_no_fence(bench: AgentBench) -> None:
    await seen(bench)
    await bench.round()
    assert bench.fences() == 0


async def test_before_the_mirrors_know_the_node_nothing_happens(bench: AgentBench) -> None:
    bench.want(THREE_LOW)
    bench.api.nodes.clear()
    await bench.round()
    assert bench.api.calls == []
    assert bench.rig.layout() == {SEVEN}


async def test_without_the_label_nothing_is_changed(bench: AgentBench) -> None:
    await seen(bench)
    bench.label()
    bench.want(THREE_LOW)
    await bench.round()
    assert (bench.rig.layout(), bench.fences()) == ({SEVEN}, 0)


async def test_an_instance_the_controller_has_not_seen_is_adopted(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(THREE_LOW)
    bench.unseen_by_the_controller()
    await bench.round()
    assert (bench.rig.layout(), bench.fences()) == ({SEVEN}, 0)
    assert "the controller has not yet seen profile 0 at slot 0" in bench.condition().message


async def test_what_the_guard_would_refuse_needs_no_fence(bench: AgentBench) -> None:
    await seen(bench)
    bench.node.admit(pod("train", {WHOLE: 1}), {WHOLE: [bench.rig.uuids[SEVEN]]})
    bench.want(THREE_LOW)
    await bench.round()
    assert (bench.rig.layout(), bench.fences()) == ({SEVEN}, 0)
    assert "is held by pod ml/train" in bench.condition().message


async def test_a_change_that_failed_is_tried_again_after_doubling_pauses(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(THREE_LOW)
    bench.node.policy_installed = False
    tries = []
    for _ in range(700):
        await bench.round(after=0.1)
        tries.append(bench.fences())
    began = {number: tries.index(number) for number in range(1, tries[-1] + 1)}
    pauses = [(began[number + 1] - began[number]) / 10 for number in range(1, tries[-1])]
    assert pauses[:5] == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0], abs=0.11)
    assert bench.rig.layout() == {SEVEN}


async def test_a_failed_change_stays_reported_while_it_is_waited_for(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(THREE_LOW)
    bench.node.policy_installed = False
    await bench.round()
    for _ in range(3):
        assert (bench.condition().reason, bench.condition().status) == ("ChangeFailed", "False")
        assert "was not live" in bench.condition().message
        await bench.round()
    bench.want(SEVEN)
    await bench.round()
    assert bench.condition().status == "True"


async def test_a_new_spec_is_tried_at_once(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(THREE_LOW)
    bench.node.policy_installed = False
    await bench.round()
    await bench.round()
    bench.node.policy_installed = True
    bench.want(THREE_HIGH)
    await bench.round()
    assert bench.rig.layout() == {THREE_HIGH}


async def test_a_reason_that_flickers_does_not_shorten_the_pause(bench: AgentBench) -> None:
    """Process ids on another GPU are told, but they are no new purpose."""
    bench.gpus.gpus |= fake_gpus("H100-SXM5-80GB", first_bus=0x20).gpus
    busy = bench.gpus.create(OTHER_BUS, SEVEN)
    await bench.round()
    layouts: Layouts = {BUS: (THREE_LOW,), OTHER_BUS: (THREE_LOW,)}
    spec = MigNodeSpec(observed_revision=bench.status.revision, gpus=layouts_to_spec(layouts, {}))
    bench.api.set_spec(NAME, spec)
    bench.gpus.add_process(busy.device_uuid, 100)
    bench.node.policy_installed = False
    await bench.round()
    assert bench.fences() == 1
    for number in range(100, 105):
        bench.gpus.remove_process(number)
        bench.gpus.add_process(busy.device_uuid, number + 1)
        await bench.round(after=0.1)
    assert bench.fences() == 1


async def test_a_bad_spec_is_told_and_changes_nothing(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(SEVEN, THREE_LOW)
    await bench.round()
    assert (bench.rig.layout(), bench.fences()) == ({SEVEN}, 0)
    assert (bench.condition().status, bench.condition().reason) == ("False", "BadSpec")
    (event,) = bench.events.events
    assert (event.reason, event.involved.kind, event.involved.name) == (EventReason.BAD_SPEC, "MigNode", NAME)
    assert BUS in event.message


async def test_a_missing_driver_is_a_condition_and_the_last_gpus_stay(bench: AgentBench) -> None:
    await seen(bench)
    gpus = bench.status.gpus
    bench.gpus.fail("read", DriverUnavailable("no library", hint="install it"))
    await bench.round()
    assert (bench.condition().reason, bench.condition().message) == ("DriverUnavailable", "no library; install it")
    assert bench.status.gpus == gpus
    await bench.round()
    assert bench.condition().status == "True"


async def test_a_silent_kubelet_is_a_condition(bench: AgentBench) -> None:
    await seen(bench)
    bench.node.admit(pod("train", {THREE: 1}), {})
    bench.node.fails["get"] = [KubeletUnavailable("no socket")]
    await bench.round()
    assert bench.condition().reason == "KubeletUnavailable"


async def test_a_status_is_written_only_on_change_or_heartbeat(bench: AgentBench) -> None:
    await seen(bench)
    await bench.round()  # observedGeneration
    before = len(bench.api.statuses)
    for _ in range(9):
        await bench.round(after=1.0)
    assert len(bench.api.statuses) == before
    await bench.round(after=1.0)
    assert len(bench.api.statuses) == before + 1
    first, second = (each.agent for each in bench.api.statuses[-2:])
    assert first is not None
    assert second is not None
    assert first.heartbeat != second.heartbeat


async def test_a_status_that_could_not_be_written_is_written_in_the_next_round(bench: AgentBench) -> None:
    bench.api.fails["write_status"] = [ClusterUnavailable("no answer")]
    with pytest.raises(ClusterUnavailable):
        await bench.round()
    await bench.round()
    assert bench.condition().status == "True"


async def test_counts_the_kubelet_set_back_are_written_again_once_it_lists_the_devices(bench: AgentBench) -> None:
    await seen(bench)
    bench.want(THREE_LOW)
    await bench.round()
    await bench.node.set_mig_capacity(NAME, {THREE: 1}, {THREE: 0})
    listed, bench.node.listed = bench.node.listed, {}
    await bench.round()
    assert bench.node.info.allocatable[THREE] == 0
    bench.node.listed = listed
    await bench.round()
    assert bench.node.info.allocatable[THREE] == 1
    written = bench.node.calls.count("set_mig_capacity")
    await bench.round()
    assert bench.node.calls.count("set_mig_capacity") == written


async def test_a_round_asks_the_kubelet_for_its_devices_once(bench: AgentBench) -> None:
    await bench.round()
    asked = bench.node.calls.count("allocatable")
    await bench.round()
    assert bench.node.calls.count("allocatable") == asked + 1


async def test_an_api_server_that_falls_silent_in_the_middle_of_a_round_ends_no_loop(bench: AgentBench) -> None:
    asked = 0

    def silent_at_first(call: str) -> None:
        nonlocal asked
        asked += call == "set_mig_capacity"
        if call == "set_mig_capacity" and asked == 1:
            bench.loop.wake()
            raise ClusterUnavailable("no answer")

    bench.node.on_call = silent_at_first
    await bench.run_until_reported()
    assert asked == 2
    assert bench.condition().status == "True"


async def test_a_driver_that_was_replaced_under_the_agent_ends_the_process(bench: AgentBench) -> None:
    bench.gpus.fail("read", LibraryMismatch("the driver is another one now", code=18))
    with pytest.raises(LibraryMismatch):
        await bench.loop.run()
    assert bench.loop.ended.is_set()


async def test_a_loop_that_was_never_run_has_ended_when_it_is_told_to_stop(bench: AgentBench) -> None:
    bench.loop.stop()
    await asyncio.wait_for(bench.loop.ended.wait(), 1.0)
    await asyncio.wait_for(bench.loop.run(), 1.0)
    assert bench.api.calls == []
