"""The plan that may be published: checked, and made again without the nodes on which it was wrong.

A plan that breaks a rule is a fault of CDMO. It must cost neither a slice in use nor, as far as can be helped, the
pods of other nodes: the nodes that the broken rules name are left out, with the reason that their pods are then told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner.check import Violation, violations

logger = structlog.get_logger(__name__)

_ATTEMPTS = 3  # each leaves out more nodes; a fault that spreads like that is no node's


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one round's planning."""

    plan: Plan | None  # None: nothing may be published
    broken: tuple[Violation, ...] = ()


def checked(make: Callable[[Snapshot, Policy], Plan], snapshot: Snapshot, policy: Policy) -> Checked:
    """A plan that breaks no rule, and every rule that was broken on the way to it."""
    broken: tuple[Violation, ...] = ()
    for _ in range(_ATTEMPTS):
        answer = make(snapshot, policy)
        found = violations(snapshot, answer, everywhere=False)
        if not found:
            return Checked(answer, broken)
        broken += found
        logger.error("the plan breaks a rule", violations=[str(each) for each in found])
        if not all(each.node for each in found):
            break
        snapshot = _without(snapshot, found)
    logger.error("no plan is published in this round")
    return Checked(None, broken)


def _without(snapshot: Snapshot, found: tuple[Violation, ...]) -> Snapshot:
    """The snapshot in which nothing can be planned on the nodes that these rules name."""
    why = {each.node: f"CDMO's own check refuses its plan for this node: {each}" for each in reversed(found)}
    nodes = tuple(
        replace(view, problem=why[view.node.name]) if view.node.name in why else view for view in snapshot.nodes
    )
    return replace(snapshot, nodes=nodes)
