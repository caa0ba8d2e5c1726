"""The pods that wait, oldest first within each kind.

Pods of one kind ask for the same slices at the same priority, so the planner serves the older one first. A plan is
therefore only shown as many of a kind as the free slots could possibly serve, and one more, the oldest blocked one:
its answer is the same as for the whole backlog, at a price that does not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from cdmo.model.gpu import PodKey
from cdmo.simulation.workload import Demand, Job

_Kind = tuple[int, Demand]


class Backlog:
    """Jobs that wait, by the key of their pod."""

    def __init__(self, size: Callable[[Demand], int]) -> None:
        """size: memory slots that a demand takes at least, above 0."""
        self._size = size
        self._kinds: dict[_Kind, dict[PodKey, Job]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, job: Job) -> None:
        """One that has to wait. Jobs come in the order in which they arrive."""
        self._kinds.setdefault((job.pod.priority, job.demand), {})[job.pod.key] = job
        self._count += 1

    def remove(self, job: Job) -> None:
        """This one waits no longer."""
        kind = (job.pod.priority, job.demand)
        del self._kinds[kind][job.pod.key]
        if not self._kinds[kind]:
            del self._kinds[kind]
        self._count -= 1

    def shown(self, free: int) -> dict[PodKey, Job]:
        """What a plan has to look at while so many memory slots are free."""
        found: dict[PodKey, Job] = {}
        for (_, demand), jobs in self._kinds.items():
            found.update(islice(jobs.items(), free // self._size(demand) + 1))
        return found
