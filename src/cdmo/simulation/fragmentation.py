"""How much of a GPU's free memory the next pod could not use.

For each profile that the workload asks for, all free slots of a GPU on which not even one slice of that profile
could be created beside what is in use are stranded; the profiles are weighed by how often they are asked for. This
is the fragmentation of FGD (Weng et al., USENIX ATC 2023) with memory slots in place of shares of a GPU. Idle
slices count as free: a plan may destroy them.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdmo.planner.placement import CardTable, Layout


class Stranded:
    """Expected number of stranded slots by what is in use on a GPU. Remembers its answers: layouts are few."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """weights: the share of each extended resource among the slices that are asked for, together 1."""
        self._weights = weights
        self._known: dict[tuple[int, Layout], float] = {}

    def of(self, table: CardTable, in_use: Layout) -> float:
        """Stranded slots of one GPU; nothing is stranded on an empty GPU that could hold all profiles."""
        key = (id(table), in_use)  # tables are kept for the life of the process (`table_of`)
        known = self._known.get(key)
        if known is None:
            possible = {table.resource_at(each) for each in table.addable(in_use)}
            lost = sum(weight for resource, weight in self._weights.items() if resource not in possible)
            known = self._known[key] = lost * table.free_slots(in_use)
        return known
