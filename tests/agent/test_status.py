"""The heartbeat between rounds: it goes on while they are slow, and stops when they are dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdmo.agent.change import Phase
from cdmo.agent.status import with_overdue
from cdmo.api.v1alpha1 import MigNodeStatus
from cdmo.errors import ClusterUnavailable
from cdmo.model.reasons import EventReason
from tests.agent.bench import AgentBench
from tests.agent.nodes import SEVEN


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    made = AgentBench(tmp_path, SEVEN)
    yield made
    made.rig.worker.close()


def heartbeats(bench: AgentBench) -> list[str]:
    return [each.agent.heartbeat for each in bench.api.statuses if each.agent]


async def test_before_anything_was_seen_there_is_nothing_to_say(bench: AgentBench) -> None:
    await bench.heart.look()
    assert bench.api.statuses == []


async def test_while_a_round_takes_long_the_heart_beats(bench: AgentBench) -> None:
    await bench.round()
    before = bench.status
    for _ in range(6):
        bench.clock.jump(5.0)
        await bench.heart.look()
    beats = heartbeats(bench)
    assert len(beats) == len(set(beats)) == 4  # the first report, and one every ten seconds
    assert bench.status.agent is not None
    assert before.agent is not None
    assert bench.status.gpus == before.gpus
    assert bench.status.conditions == before.conditions


async def test_rounds_and_heart_together_beat_no_more_often(bench: AgentBench) -> None:
    for _ in range(6):
        await bench.round(after=5.0)
        await bench.heart.look()
    assert len(heartbeats(bench)) == 3


async def test_rounds_that_are_stuck_must_not_look_alive(bench: AgentBench) -> None:
    await bench.round()
    before = len(bench.api.statuses)
    bench.clock.jump(241.0)
    await bench.heart.look()
    assert len(bench.api.statuses) == before
    bench.pulse.mark()
    await bench.heart.look()
    assert len(bench.api.statuses) == before + 1


async def test_an_api_server_that_is_away_ends_no_heart(bench: AgentBench) -> None:
    await bench.round()
    bench.clock.jump(10.0)
    bench.api.fails["write_status"] = [ClusterUnavailable("no answer")]
    await bench.heart.look()
    await bench.heart.look()
    assert len(heartbeats(bench)) == 2


async def test_the_task_beats_until_it_is_cancelled(bench: AgentBench) -> None:
    await bench.round()
    beaten = asyncio.Event()
    bench.api.on_status = lambda _: beaten.set()
    task = asyncio.create_task(bench.heart.run())
    await asyncio.wait_for(beaten.wait(), 5.0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_beat_never_overwrites_a_newer_status_with_an_older_one(bench: AgentBench) -> None:
    await bench.round()
    bench.clock.jump(10.0)
    newer = MigNodeStatus(revision=99, agent=bench.status.agent)
    await asyncio.gather(bench.keeper.report(newer), bench.keeper.beat(None))
    assert bench.status.revision == 99
    assert bench.keeper.current.revision == 99


async def test_a_change_that_is_stuck_is_told_once_with_phase_and_time(bench: AgentBench) -> None:
    await bench.round()
    bench.watch.entered(Phase.APPLY)
    await bench.keeper.report(changing(bench.status))
    bench.clock.jump(61.0)
    for _ in range(3):
        await bench.heart.look()
    (event,) = bench.events.of(EventReason.CHANGE_STUCK)
    assert "in phase apply since 2025-" in event.message
    assert (event.involved.kind, event.warning) == ("Node", True)
    condition = bench.condition("Repartitioning")
    assert (condition.status, condition.reason, condition.message) == ("True", "ChangeStuck", event.message)
    bench.watch.over()
    await bench.heart.look()
    assert len(bench.events.of(EventReason.CHANGE_STUCK)) == 1


def changing(status: MigNodeStatus) -> MigNodeStatus:
    """The status as it is while a change is under way."""
    conditions = tuple(
        replace(each, status="True", reason="Repartitioning") if each.type == "Repartitioning" else each
        for each in status.conditions
    )
    return replace(status, conditions=conditions)


async def test_what_is_not_overdue_changes_no_status(bench: AgentBench) -> None:
    await bench.round()
    assert with_overdue(bench.status, None) is bench.status
