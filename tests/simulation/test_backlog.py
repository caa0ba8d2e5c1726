"""What a plan is shown of the pods that wait: the oldest of each kind, as many as could possibly be served."""

from __future__ import annotations

from cdmo.simulation.backlog import Backlog
from cdmo.simulation.workload import Demand, Job
from tests.simulation.stage import job

SIZES = {"nvidia.com/mig-1g.10gb": 1, "nvidia.com/mig-3g.40gb": 4}


def size(demand: Demand) -> int:
    return sum(SIZES[name] * count for name, count in demand)


def backlog(*jobs: Job) -> Backlog:
    waiting = Backlog(size)
    for each in jobs:
        waiting.add(each)
    return waiting


SMALL = [job(f"s{number}", "1g.10gb", at=number, runs=1) for number in range(10)]
BIG = [job(f"b{number}", "3g.40gb", at=number, runs=1) for number in range(4)]


def shown(waiting: Backlog, free: int) -> list[str]:
    return [each.name for each in waiting.shown(free)]


def test_as_many_of_a_kind_are_shown_as_free_slots_could_serve_and_one_more() -> None:
    waiting = backlog(*SMALL, *BIG)
    assert shown(waiting, 0) == ["s0", "b0"]
    assert shown(waiting, 4) == ["s0", "s1", "s2", "s3", "s4", "b0", "b1"]
    assert len(shown(waiting, 1000)) == len(waiting) == 14


def test_another_priority_is_another_kind() -> None:
    urgent = job("urgent", "1g.10gb", at=99, runs=1, priority=5)
    assert shown(backlog(*SMALL, urgent), 0) == ["s0", "urgent"]


def test_what_was_served_is_shown_no_more() -> None:
    waiting = backlog(*SMALL, BIG[0])
    waiting.remove(SMALL[0])
    waiting.remove(BIG[0])
    assert shown(waiting, 1) == ["s1", "s2"]
    assert len(waiting) == len(shown(waiting, 100)) == 9
