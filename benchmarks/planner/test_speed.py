"""From snapshot to plan: 3,000 pending pods on 4,000 GPUs in 500 nodes, nothing remembered from a plan before."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import pytest

from benchmarks.conftest import StartPart
from benchmarks.planner.constraints import constrained, related
from benchmarks.planner.instances import empty, fragmented
from benchmarks.planner.processes import in_a_process
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner import plan
from cdmo.planner.check import violations
from tests.planner.carried_out import carry_out

NODES, PODS = 500, 3_000
SEED = 1001
TIMES = 7


@pytest.mark.timeout(300)
def test_three_thousand_pods_on_four_thousand_gpus(part: StartPart) -> None:
    measured = part("speed")
    cards = ("h100",) * NODES
    starts: dict[str, Callable[[], Snapshot]] = {
        "65 % busy": lambda: fragmented(cards, "uniform", random.Random(SEED), pods=PODS),
        "65 % busy, idle cut": lambda: fragmented(cards, "uniform", random.Random(SEED), pods=PODS, leftovers=True),
        "empty": lambda: empty(cards, "uniform", random.Random(SEED), pods=PODS),
    }
    for start, make in starts.items():
        question = make()
        measured.figure(f"{start}, unconstrained", seconds(question), "s", key="unconstrained", of=statistics.median)
        sorted_out = constrained(question)
        measured.figure(f"{start}, 20 classes", seconds(sorted_out), "s", key="constrained", of=statistics.median)
        apart = related(sorted_out)
        measured.figure(f"{start}, with pod rules", seconds(apart), "s", key="constrained", of=statistics.median)
    first = [float(in_a_process("first")["seconds"]) for _ in range(3)]
    measured.figure("65 % busy, first plan of a process", first, "s", of=statistics.median)
    measured.note("nodes", NODES)
    measured.note("pods", PODS)
    measured.note("seed", SEED)
    measured.finish()


def seconds(question: Snapshot) -> list[float]:
    """How long a plan takes, several times; the plan is legal, and the cards carry it out."""
    taken = []
    for _ in range(TIMES):
        before = time.perf_counter()
        answer = plan(question, Policy())
        taken.append(time.perf_counter() - before)
    assert violations(question, answer) == ()
    assert answer.placements
    carry_out(question, answer)
    return taken
