"""The planner: which slices to cut where, for which pod. Pure: standard library and `cdmo.model` alone.

    plan(snapshot, policy) -> Plan

The idea, in the order of `plan`:
 1. `ledger`    what every GPU is to look like as things stand: what is held, asked for, on its way, adopted
 2. `keep`      pods that were planned before keep their slices where they can still have them
 3. `fit`       everyone else, by priority and age: reuse an idle slice, else create in free slots, else destroy idle
                slices; among creates the fewest slots left free plus the fewest placements lost ("best fit and
                capability loss"). `shape` and `placement` hold what is precomputed, `eligible` says which nodes count
 4. `waiting`   whoever got nothing learns why, in a sentence (`reasons`) that a person can act on
 5. layouts that differ from what was asked of a GPU become changes

`check.violations` says what is wrong with a plan; it is asked before a plan is published, and by the tests.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Assignment, Snapshot
from cdmo.planner.eligible import Eligibility, shortage
from cdmo.planner.fit import NO_COST, Choice
from cdmo.planner.keep import avoided, keep_assignments
from cdmo.planner.ledger import Ledger, NodeState
from cdmo.planner.shape import Cost
from cdmo.planner.waiting import Explainer

__all__ = ["in_order", "plan"]


def plan(snapshot: Snapshot, policy: Policy) -> Plan:
    """A place or a reason for every pending pod, and the layouts that follow. Same input, same plan."""
    queue = in_order(snapshot.pending, policy)
    ledger = Ledger(snapshot)
    placed = keep_assignments(snapshot, queue, ledger)
    eligibility = Eligibility()
    for pod in queue:
        if pod.key not in placed:
            assignment = _place(pod, avoided(snapshot, pod.key), ledger, eligibility)
            if assignment is not None:
                placed[pod.key] = assignment
    explainer = Explainer(ledger, eligibility)
    return Plan(
        placements=tuple(placed[pod.key] for pod in queue if pod.key in placed),
        changes=ledger.changes(),
        waiting=tuple(explainer.why(pod, avoided(snapshot, pod.key)) for pod in queue if pod.key not in placed),
    )


def in_order(pending: Iterable[PodInfo], policy: Policy) -> list[PodInfo]:
    """The pods a plan answers, the first served first: by priority, then age, then key."""
    answered: dict[PodKey, PodInfo] = {}
    for pod in pending:
        theirs = pod.scheduler_name not in policy.scheduler_names
        if pod.demand and not (pod.gated or pod.node_name or pod.finished or pod.terminating or theirs):
            answered[pod.key] = pod
    return sorted(answered.values(), key=lambda each: (-each.priority, each.created, each.key))


def _place(pod: PodInfo, avoid: frozenset[str], ledger: Ledger, eligibility: Eligibility) -> Assignment | None:
    """Give the pod the cheapest choice on a node where it may run; ties go to the first node by name."""
    demand = pod.demand

    def may_run(node: NodeState) -> bool:
        host = node.view.node
        return eligibility.obstacle(pod, host) is None and shortage(pod, host, node.room) is None

    found: list[tuple[Cost, str, Choice]] = []
    for name, node in ledger.nodes.items():
        choice = None if node.problem or name in avoid else node.best(demand, ledger.fitter)
        if choice is not None:
            if choice.cost == NO_COST and may_run(node):  # nothing is cheaper, and nodes come by name
                return node.give(pod, choice, ledger.shapes)
            found.append((choice.cost, name, choice))
    found.sort(key=lambda each: each[:2])
    for _, name, choice in found:
        node = ledger.nodes[name]
        if may_run(node):
            return node.give(pod, choice, ledger.shapes)
    return None


class Planner:
    """`plan` for one snapshot after another."""

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """The same answer as `plan`."""
        return plan(snapshot, policy)
