"""Whether a main task gets on."""

from __future__ import annotations

from cdmo.runtime.pulse import Pulse
from tests.fakes.clock import VirtualClock


def test_a_task_that_leaves_marks_is_not_stuck() -> None:
    clock = VirtualClock()
    pulse = Pulse(clock, 60.0)
    for _ in range(10):
        clock.jump(60.0)
        assert pulse.stuck() == ""
        pulse.mark("a round")


def test_a_task_without_a_mark_for_too_long_is_stuck_in_what_it_said_last() -> None:
    clock = VirtualClock()
    pulse = Pulse(clock, 60.0)
    pulse.mark("a round")
    pulse.mark()
    clock.jump(61.0)
    assert pulse.stuck() == "no progress for 61 s: a round"
    assert pulse.age == 61.0
    pulse.mark("waiting")
    assert pulse.stuck() == ""


def test_a_machine_that_was_suspended_shows_at_once() -> None:
    clock = VirtualClock()
    pulse = Pulse(clock, 60.0)
    clock.jump(3600.0)
    assert pulse.stuck() == "no progress for 3600 s: starting"
