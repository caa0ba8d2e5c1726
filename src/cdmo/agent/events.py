"""Each Event the agent writes, as a function."""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.agent.change import Outcome, Result
from cdmo.api.v1alpha1 import MigNode
from cdmo.kube.port import Event, Involved
from cdmo.model.cluster import NodeInfo
from cdmo.model.reasons import EventReason


def of_change(node: NodeInfo, outcome: Outcome) -> Iterator[Event]:
    """What is worth telling about a change, on the Node; nothing when nothing was needed."""
    involved = Involved("Node", node.name, uid=node.uid)
    if outcome.result is Result.APPLIED:
        message = f"GPUs repartitioned, bindings were held back for {outcome.fenced_seconds:.2f} s"
        yield Event(involved, EventReason.REPARTITIONED, message)
    elif outcome.still_fenced:
        yield Event(involved, EventReason.PLUGIN_STUCK, outcome.message, warning=True)
    elif outcome.result is not Result.UNNEEDED:
        yield Event(involved, EventReason.REPARTITION_FAILED, outcome.message, warning=True)
    if outcome.fence_lapsed:
        message = (
            "bindings were possible while the GPUs were being changed: somebody removed the fence label or its "
            "admission policy"
        )
        yield Event(involved, EventReason.FENCE_LAPSED, message, warning=True)


def bad_spec(mignode: MigNode, message: str) -> Event:
    """A MigNode whose spec cannot be carried out, on the MigNode."""
    involved = Involved("MigNode", mignode.metadata.name, uid=mignode.metadata.uid)
    return Event(involved, EventReason.BAD_SPEC, message, warning=True)
