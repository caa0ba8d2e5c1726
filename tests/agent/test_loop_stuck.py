"""The agent's rounds while the driver hangs, the kubelet is slow or a change does not get on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cdmo.agent.change import Phase
from cdmo.agent.loop import LoopSettings
from cdmo.model.cluster import carries_fence
from cdmo.model.gpu import MigMode
from cdmo.model.reasons import EventReason
from tests.agent.bench import AgentBench
from tests.agent.hanging import LIMIT, Hanging
from tests.agent.nodes import BUS, SEVEN, THREE, THREE_HIGH, THREE_LOW, pod

DRIVER_LIMIT = 0.5  # seconds


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    """One idle 7g slice, seen and reported."""
    made = AgentBench(tmp_path, SEVEN, driver_limit=DRIVER_LIMIT)
    yield made
    made.rig.worker.close()


@asynccontextmanager
async def hanging(bench: AgentBench, call: str) -> AsyncIterator[Hanging]:
    made = Hanging(bench.rig, call)
    try:
        yield made
    finally:
        made.end()


async def test_a_hung_driver_is_reported_and_the_heartbeat_goes_on(bench: AgentBench) -> None:
    await bench.round()
    gpus = bench.status.gpus
    async with hanging(bench, "read") as hung:
        await bench.round()
        assert (bench.condition().status, bench.condition().reason) == ("False", "DriverHung")
        assert "has not returned for 0.5 s" in bench.condition().message
        assert "reload the driver or reboot the node" in bench.condition().message
        assert bench.status.gpus == gpus
        beats = set()
        for _ in range(5):
            await bench.round(after=10.0)
            assert "still hangs" in bench.condition().message
            assert bench.status.agent is not None
            beats.add(bench.status.agent.heartbeat)
        assert len(beats) == 5
        assert bench.loop.trouble
        assert {each.involved.kind for each in bench.events.of(EventReason.DRIVER_HUNG)} == {"Node"}
        await hung.release()
    await bench.round()
    assert bench.condition().status == "True"
    assert bench.loop.trouble == ""


async def test_a_hung_step_keeps_the_node_fenced_until_the_driver_answers_and_then_ends_the_change(
    bench: AgentBench,
) -> None:
    await bench.round()
    bench.want(THREE_LOW, THREE_HIGH)
    async with hanging(bench, "create") as hung:
        await bench.round()
        for _ in range(3):
            assert (bench.condition().status, bench.condition().reason) == ("False", "DriverHung")
            assert carries_fence(bench.node.info)
            assert bench.rig.journal.read() is not None
            await bench.round(after=30.0)
        assert bench.node.calls.count("reload") == 0
        await hung.release()
    bench.loop.driver_answered()
    await bench.round()
    assert bench.rig.layout() == {THREE_LOW, THREE_HIGH}
    assert not carries_fence(bench.node.info)
    assert bench.rig.journal.read() is None
    assert bench.condition().status == "True"


async def test_an_agent_that_starts_while_the_driver_hangs_keeps_the_fence_of_the_interrupted_change(
    bench: AgentBench,
) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    async with hanging(bench, "create") as hung:
        await bench.round()
        bench.new_agent()
        bench.loop.stop()
        await bench.loop.run()  # takes up the journal
        await bench.round()
        assert carries_fence(bench.node.info)
        assert bench.condition().reason == "DriverHung"
        await hung.release()


async def test_what_was_put_off_is_tried_at_once_when_the_driver_answers(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    bench.node.policy_installed = False
    for _ in range(6):
        await bench.round(after=60.0)
    bench.node.policy_installed = True
    await bench.round()
    assert bench.rig.layout() == {SEVEN}
    bench.loop.driver_answered()
    await bench.round()
    assert bench.rig.layout() == {THREE_LOW}


async def test_a_kubelet_so_slow_that_a_look_takes_for_ever_is_a_condition(bench: AgentBench) -> None:
    bench.settings = replace(LoopSettings(), look_limit=0.05)
    bench.new_agent()
    bench.node.admit(pod("train", {THREE: 1}), {})

    async def never(namespace: str, name: str) -> None:
        await asyncio.Event().wait()

    bench.node.get = never  # type: ignore[method-assign,assignment]
    await asyncio.wait_for(bench.round(), LIMIT)
    assert bench.condition().reason == "KubeletUnavailable"
    assert "took more than 0.05 s" in bench.condition().message


async def test_a_phase_that_was_given_up_is_told_in_condition_and_event(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    bench.rig.limits[Phase.QUIET] = 0.05

    async def never(node: str) -> None:
        await asyncio.Event().wait()

    bench.node.pods_on = never  # type: ignore[method-assign,assignment]
    await asyncio.wait_for(bench.round(), LIMIT)
    assert (bench.condition().status, bench.condition().reason) == ("False", "ChangeStuck")
    assert "in phase quiet" in bench.condition().message
    (event,) = bench.events.of(EventReason.CHANGE_STUCK)
    assert "in phase quiet" in event.message
    assert not carries_fence(bench.node.info)


async def test_the_heart_beats_in_the_middle_of_a_long_change(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    before = bench.status.agent

    def slow(call: str) -> None:
        if call == "reload":
            bench.clock.jump(50.0)

    bench.node.on_call = slow
    reload = bench.node.reload
    seen: list[str] = []

    async def beaten(*arguments: object) -> None:
        bench.clock.jump(50.0)
        await bench.heart.look()
        assert bench.status.agent is not None
        seen.append(bench.status.agent.heartbeat)
        seen.append(bench.condition("Repartitioning").status)
        await reload(*arguments)  # type: ignore[arg-type]

    bench.node.reload = beaten  # type: ignore[method-assign,assignment]
    await bench.round()
    assert before is not None
    assert seen[0] > before.heartbeat
    assert seen[1] == "True"


async def test_rounds_changes_and_phases_are_counted(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    await bench.run_until_reported()
    value = bench.metrics.registry.get_sample_value
    assert value("cdmo_agent_changes_total", {"result": "Applied"}) == 1
    assert (value("cdmo_agent_rounds_total", {"result": "finished"}) or 0) >= 1
    assert all(value("cdmo_agent_phase_seconds_count", {"phase": each.value}) == 1 for each in Phase)


async def test_an_agent_killed_before_it_switched_mig_on_again_leaves_the_lost_mode_to_the_next(
    bench: AgentBench,
) -> None:
    await bench.round()
    bench.want(SEVEN)
    await bench.round()
    bench.gpus.reboot()
    bench.boot_id = "boot-2"
    bench.new_agent()
    bench.node.policy_installed = False  # it cannot change anything, and is killed
    await bench.round()
    await bench.round()
    assert bench.gpus.gpu(BUS).mig_mode is MigMode.DISABLED
    assert bench.status.agent is not None
    assert bench.status.agent.boot_id == "boot-2"
    bench.node.policy_installed = True
    bench.new_agent()
    await bench.round()
    await bench.round()
    assert bench.gpus.gpu(BUS).mig_mode is MigMode.ENABLED
    assert bench.rig.layout() == {SEVEN}
