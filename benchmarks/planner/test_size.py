"""100,000 GPUs: one more pod, the round that contains it, and the memory that all of it takes."""

from __future__ import annotations

import statistics

import pytest

from benchmarks.conftest import StartPart
from benchmarks.planner.processes import in_a_process


@pytest.mark.timeout(300)
def test_one_more_pod_on_a_hundred_thousand_gpus(part: StartPart) -> None:
    measured = part("size")
    found = in_a_process("size")
    decisions = [each * 1e6 for each in found["decisions"]]
    measured.figure("one decision", decisions, "us", key="decision", of=statistics.median)
    everything = [each * 1e6 for each in found["everything"]]
    measured.figure("one pod more in a round, all included", everything, "us", of=statistics.median)
    measured.figure("a round with one more pod", found["rounds"], "s", key="round", of=statistics.median)
    measured.figure("a round with one more pod, worst", found["rounds"], "s", of=max)
    measured.figure("the first round", found["first"], "s")
    measured.figure("the process at its largest", found["most"] / 1e6, "MB", key="memory")
    measured.figure("of it before the planner came", found["snapshot"] / 1e6, "MB")
    measured.note("runningPods", found["pods"])
    measured.finish()
