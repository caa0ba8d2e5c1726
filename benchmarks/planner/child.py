"""Measurements that need a process of their own: `python -m benchmarks.planner.child first|size`. JSON on stdout.

first   the first plan that a process makes: nothing is warm
size    100,000 GPUs: memory of the process, the round that contains one more pod, and one more decision in it
"""

from __future__ import annotations

import gc
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.planner.instances import fragmented, pending_pod
from benchmarks.planner.online import ended
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner import Planner, plan
from cdmo.planner.attempt import Attempt
from cdmo.planner.batch import Batch
from tests.builders import NOW
from tests.builders import resource as named

SEED = 1001
NODES_OF_FIRST, PODS_OF_FIRST = 500, 3_000
NODES = 12_500  # of 8 GPUs
ROUNDS = 40
MANY = 1_000  # pods in one round, to see what one decision costs


def first() -> dict[str, float]:
    """Seconds of the first plan."""
    question = fragmented(("h100",) * NODES_OF_FIRST, "uniform", random.Random(SEED), pods=PODS_OF_FIRST)
    before = time.perf_counter()
    plan(question, Policy())
    return {"seconds": time.perf_counter() - before}


def size() -> dict[str, object]:
    """Seconds and bytes with 100,000 GPUs."""
    empty = _resident()
    question = fragmented(("h100",) * NODES, "uniform", random.Random(SEED), pods=0)
    gc.collect()
    held = _resident()
    planner = Planner()
    before = time.perf_counter()
    planner.plan(question, Policy())
    cold = time.perf_counter() - before
    rounds = []
    for number in range(ROUNDS):
        question = _next(question, number, 1)
        before = time.perf_counter()
        answer = planner.plan(question, Policy())
        rounds.append(time.perf_counter() - before)
        assert len(answer.placements) == 1
    many = []
    with _timed_placing() as placing:
        for number in range(ROUNDS, ROUNDS + 7):
            question = _next(question, number, MANY)
            before = time.perf_counter()
            answer = planner.plan(question, Policy())
            many.append(time.perf_counter() - before)
            assert len(answer.placements) == MANY
    one = statistics.median(rounds)
    return {
        "pods": sum(len(view.pods) for view in question.nodes),
        "first": cold,
        "rounds": rounds,
        "decisions": [each / MANY for each in placing],
        "everything": [(each - one) / (MANY - 1) for each in many],
        "interpreter": empty,
        "snapshot": held,
        "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _next(question: Snapshot, number: int, pods: int) -> Snapshot:
    """The same cluster a moment later: a pod of one node has ended, and these pods wait."""
    place = number * 311 % NODES
    nodes = list(question.nodes)
    view = nodes[place]
    nodes[place] = ended(view, view.pods[0].key) if view.pods else view
    names = [named(each) for each in ("1g.10gb", "2g.20gb", "3g.40gb", "1g.20gb")]
    waiting = [
        pending_pod(f"more-{number}-{each}", names[each % len(names)], created=NOW + number) for each in range(pods)
    ]
    return replace(question, now=NOW + number, nodes=tuple(nodes), pending=tuple(waiting))


@contextmanager
def _timed_placing() -> Iterator[list[float]]:
    """Collects the seconds that each plan takes to choose and book the places of its pods."""
    seconds: list[float] = []
    serve = Batch.serve

    def timed(batch: Batch) -> Attempt:
        before = time.perf_counter()
        attempt = serve(batch)
        seconds.append(time.perf_counter() - before)
        return attempt

    Batch.serve = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Batch.serve = serve  # type: ignore[method-assign]


def _resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"first": first, "size": size}[sys.argv[1]]()))
