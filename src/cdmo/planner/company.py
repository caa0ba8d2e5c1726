"""Where a pod's company lets it run: rules about other pods, with the pods that a plan has placed so far.

Nearly always there are no such rules. Then nothing here costs anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.snapshot import Snapshot
from cdmo.planner.eligible import Obstacle
from cdmo.planner.relations import Relations


def company_of(snapshot: Snapshot, queue: Iterable[PodInfo], *, repelled: bool) -> Company:
    """The company of a plan for these pods. `repelled`: some pod on a managed node has anti-affinity."""
    if not repelled and not any(map(_has_rules, queue)):
        away = [each.pods for each in snapshot.nodes if not each.managed] + [each.pods for each in snapshot.others]
        if not any(pod.anti_affinity for pods in away for pod in pods):
            return Company(None)
    hosts = [(view.node, view.pods) for view in snapshot.nodes] + [(each.node, each.pods) for each in snapshot.others]
    return Company(Relations(hosts, snapshot.namespaces))


def _has_rules(pod: PodInfo) -> bool:
    return bool(pod.spread or pod.affinity or pod.anti_affinity or pod.exclusive_claims)


class Company:
    """Relations of one plan, with a way back. None: no pod here has a rule about others."""

    def __init__(self, relations: Relations | None) -> None:
        self._relations = relations
        self._placed: list[tuple[PodInfo, str]] = []

    @property
    def any_rules(self) -> bool:
        """Whether any pod here has a rule about others."""
        return self._relations is not None

    def concerns(self, pod: PodInfo) -> bool:
        """Whether any rule about other pods could bar this one anywhere."""
        return self._relations is not None and self._relations.concerns(pod)

    def obstacle(self, pod: PodInfo, node: NodeInfo) -> Obstacle | None:
        """What keeps the pod from the node because of who is where, or None."""
        return None if self._relations is None else self._relations.obstacle(pod, node)

    def place(self, pod: PodInfo, node: str) -> None:
        """From now on the pod counts as being on the node."""
        if self._relations is not None:
            self._relations.place(pod, node)
            self._placed.append((pod, node))

    def mark(self) -> int:
        """A point to which `rollback` can return."""
        return len(self._placed)

    def rollback(self, mark: int) -> None:
        """Take back every pod placed since the mark."""
        if self._relations is not None:
            for pod, node in reversed(self._placed[mark:]):
                self._relations.unplace(pod, node)
        del self._placed[mark:]
