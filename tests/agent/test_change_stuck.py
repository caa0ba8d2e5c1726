"""Changes that do not get on: a driver call that never returns, a phase that takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdmo.agent.change import Outcome, Phase, Result
from cdmo.api.convert import Withheld
from cdmo.model.cluster import carries_fence
from cdmo.model.gpu import Placement
from cdmo.model.reasons import ReadyReason
from tests.agent.hanging import Hanging
from tests.agent.nodes import SEVEN, THREE_HIGH, THREE_LOW, Rig

NOTHING: Withheld = {}
DRIVER_LIMIT = 0.5  # seconds
SHORT = 0.05  # seconds, of phases that are to be given up


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, SEVEN, driver_limit=DRIVER_LIMIT)
    yield made
    made.worker.close()


@pytest.fixture
def hanging_create(rig: Rig) -> Iterator[Hanging]:
    made = Hanging(rig, "create")
    yield made
    made.end()


async def run(rig: Rig, *layout: Placement) -> Outcome:
    return await rig.change.run(rig.wanting(*layout), "boot", reload_anyway=False, withheld=NOTHING)


async def again(rig: Rig, *layout: Placement) -> Outcome:
    """As the loop ends an interrupted change."""
    return await rig.change.run(rig.wanting(*layout), "boot", reload_anyway=True, withheld=NOTHING)


@pytest.mark.parametrize("call", ["create", "destroy"])
async def test_a_step_that_hangs_keeps_fence_and_journal_and_publishes_nothing(call: str, rig: Rig) -> None:
    hanging = Hanging(rig, call)
    before = rig.node.info.allocatable
    outcome = await run(rig, THREE_LOW)
    assert (outcome.result, outcome.still_fenced) == (Result.FAILED, True)
    assert outcome.reason is ReadyReason.DRIVER_HUNG
    assert "the driver hangs" in outcome.message
    assert "nvidia-smi" in outcome.message
    assert carries_fence(rig.node.info)
    journal = rig.journal.read()
    assert journal is not None
    assert len(journal.steps) == 2
    assert "reload" not in rig.node.calls
    assert rig.node.info.allocatable == before
    hanging.end()


async def test_nothing_is_undone_while_nobody_knows_what_was_done(rig: Rig, hanging_create: Hanging) -> None:
    await run(rig, THREE_LOW)
    assert rig.gpus.calls.count("create 00000000:10:00.0") == 2  # the one that made the slice, and the one that hangs
    await hanging_create.release()
    assert rig.layout() == {THREE_LOW}


async def test_while_it_hangs_no_change_touches_anything(rig: Rig, hanging_create: Hanging) -> None:
    await run(rig, THREE_LOW)
    calls = list(rig.gpus.calls)
    for _ in range(3):
        outcome = await again(rig, THREE_HIGH)
        assert (outcome.result, outcome.still_fenced) == (Result.FAILED, True)
        assert outcome.reason is ReadyReason.DRIVER_HUNG
    assert rig.gpus.calls == calls
    assert carries_fence(rig.node.info)
    await hanging_create.release()


async def test_when_the_driver_answers_again_the_change_is_ended_as_an_interrupted_one(
    rig: Rig, hanging_create: Hanging
) -> None:
    await run(rig, THREE_LOW, THREE_HIGH)
    await hanging_create.release()
    assert rig.layout() == {THREE_LOW}
    outcome = await again(rig, THREE_LOW, THREE_HIGH)
    assert outcome.result is Result.APPLIED
    assert rig.layout() == {THREE_LOW, THREE_HIGH}
    assert not carries_fence(rig.node.info)
    assert rig.journal.read() is None


async def test_a_reading_that_hangs_before_anything_was_touched_costs_only_the_fence(rig: Rig) -> None:
    hanging = Hanging(rig, "read")
    outcome = await run(rig, THREE_LOW)
    assert (outcome.result, outcome.still_fenced) == (Result.FAILED, False)
    assert outcome.reason is ReadyReason.DRIVER_HUNG
    assert not carries_fence(rig.node.info)
    assert rig.journal.read() is None
    await hanging.release()
    assert rig.layout() == {SEVEN}
    assert (await run(rig, THREE_LOW)).result is Result.APPLIED


@pytest.mark.parametrize(
    ("phase", "call"), [(Phase.FENCE, "api_servers"), (Phase.FENCE, "swap_label"), (Phase.QUIET, "pods_on")]
)
async def test_before_the_journal_a_phase_that_takes_too_long_is_given_up_and_unfenced(
    phase: Phase, call: str, rig: Rig
) -> None:
    rig.limits[phase] = SHORT
    block(rig, call)
    outcome = await run(rig, THREE_LOW)
    assert (outcome.result, outcome.reason) == (Result.FAILED, ReadyReason.CHANGE_STUCK)
    assert outcome.message.startswith(f"the change was given up in phase {phase}")
    assert not carries_fence(rig.node.info)
    assert rig.layout() == {SEVEN}
    assert rig.journal.read() is None


@pytest.mark.parametrize(
    ("phase", "call"), [(Phase.RELOAD, "reload"), (Phase.PUBLISH, "set_mig_capacity"), (Phase.UNFENCE, "unfence")]
)
async def test_after_the_journal_a_phase_that_takes_too_long_keeps_fence_and_journal(
    phase: Phase, call: str, rig: Rig
) -> None:
    rig.limits[phase] = SHORT
    block(rig, call)
    outcome = await run(rig, THREE_LOW)
    assert (outcome.result, outcome.still_fenced) == (Result.FAILED, True)
    assert outcome.reason is ReadyReason.CHANGE_STUCK
    assert carries_fence(rig.node.info)
    assert rig.journal.read() is not None
    outcome = await again(rig, THREE_LOW)
    assert outcome.result is Result.APPLIED
    assert not carries_fence(rig.node.info)


def block(rig: Rig, call: str) -> None:
    """The next call of this name never answers."""
    original = getattr(rig.node, METHODS[call])

    async def never(*arguments: object, **named: object) -> object:
        if is_it(call, arguments):
            setattr(rig.node, METHODS[call], original)
            await asyncio.Event().wait()
        return await original(*arguments, **named)

    setattr(rig.node, METHODS[call], never)


METHODS = {
    "api_servers": "api_servers",
    "pods_on": "pods_on",
    "swap_label": "swap_label",
    "reload": "reload",
    "set_mig_capacity": "set_mig_capacity",
    "unfence": "set_labels",
}


def is_it(call: str, arguments: tuple[object, ...]) -> bool:
    """Raising and lowering are the same call."""
    return call != "unfence" or None in dict(arguments[1]).values()  # type: ignore[call-overload]
