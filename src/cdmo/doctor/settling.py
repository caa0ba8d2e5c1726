"""Whether CDMO can be taken away now, and what stays when it is.

Whoever takes CDMO away while a node changes takes the only one who can lower that node's fence. So this is asked
before: `cdmo settle`, and with it the chart's hook before `helm uninstall`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cdmo.api.v1alpha1 import MigNode
from cdmo.model.cluster import NodeInfo, carries_fence, labelled
from cdmo.model.gpu import DeviceState
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL, MANAGED_LABEL, PARTITIONING_LABEL
from cdmo.model.policy import AGENT_SILENT_AFTER
from cdmo.model.reasons import ConditionType, EventReason


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A node that is in the middle of something. `sentence` goes on where its name ends."""

    node: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Remains:
    """What there is of CDMO's work when CDMO itself is gone."""

    slices: int
    in_use: int
    sliced_nodes: int
    mig_nodes: int
    labelled: tuple[str, ...]  # names of Nodes


def unsettled(nodes: Iterable[NodeInfo], mig_nodes: Iterable[MigNode], now: float) -> tuple[Unsettled, ...]:
    """Every node that nobody may leave as it is, by name. `now`: unix time in seconds."""
    reported = {each.metadata.name: each for each in mig_nodes}
    found = ((node, _in_the_way(node, reported.get(node.name), now)) for node in nodes)
    return tuple(sorted((Unsettled(node.name, said) for node, said in found if said), key=lambda each: each.node))


def _in_the_way(node: NodeInfo, mignode: MigNode | None, now: float) -> str:
    silent = _silent_for(mignode, now)
    if carries_fence(node):
        what = "its GPUs are being changed" if node.labels.get(FENCE_LABEL) == FENCE_CHANGING else "its fence is up"
        if silent is None:
            return f"{what}, and no agent has reported that could end it"
        if silent > AGENT_SILENT_AFTER:
            return f"{what}, and its agent, which alone ends it, has been silent for {silent:.0f} s"
        return f"{what}{_stuck(mignode)}"
    if mignode is None or silent is None or silent > AGENT_SILENT_AFTER:
        return ""  # nobody is there to begin anything
    if _condition(mignode, ConditionType.REPARTITIONING) == "True":
        return f"its agent says that it is changing{_stuck(mignode)}"
    if not labelled(node):
        return "it lost the label and its agent has not left it clean yet" if MANAGED_LABEL in node.labels else ""
    behind = mignode.status.observed_generation < mignode.metadata.generation
    return "its agent has not taken up the newest layout yet" if behind else ""


def _stuck(mignode: MigNode | None) -> str:
    """What the agent says of a phase that takes too long, in brackets."""
    conditions = mignode.status.conditions if mignode else ()
    said = (f" ({each.message})" for each in conditions if each.reason == EventReason.CHANGE_STUCK and each.message)
    return next(said, "")


def _condition(mignode: MigNode, kind: ConditionType) -> str:
    return next((each.status for each in mignode.status.conditions if each.type == kind), "")


def _silent_for(mignode: MigNode | None, now: float) -> float | None:
    """Seconds since the agent's last heartbeat; None: there was none that can be read."""
    agent = mignode.status.agent if mignode else None
    if agent is None:
        return None
    try:
        return now - datetime.fromisoformat(agent.heartbeat.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None


def remains(nodes: Iterable[NodeInfo], mig_nodes: Iterable[MigNode]) -> Remains:
    """What is left."""
    reported = list(mig_nodes)
    counts = [_slices(each) for each in reported]
    return Remains(
        slices=sum(existing for existing, _ in counts),
        in_use=sum(in_use for _, in_use in counts),
        sliced_nodes=sum(existing > 0 for existing, _ in counts),
        mig_nodes=len(reported),
        labelled=tuple(sorted(each.name for each in nodes if PARTITIONING_LABEL in each.labels)),
    )


def _slices(mignode: MigNode) -> tuple[int, int]:
    devices = [device for gpu in mignode.status.gpus for device in gpu.devices]
    return len(devices), sum(each.state == DeviceState.IN_USE for each in devices)


def told(left: Remains) -> Iterator[str]:
    """The same for people, a sentence a line."""
    if left.slices:
        yield (
            f"Left as they are: {_count(left.slices, 'slice')} on {_count(left.sliced_nodes, 'node')}. "
            f"Pods use {left.in_use} of them and run on."
        )
    else:
        yield "There are no slices."
    if left.mig_nodes:
        yield (
            f"{_count(left.mig_nodes, 'MigNode')} and the CRD stay, unless the chart was told otherwise: "
            "`kubectl delete crd mignodes.cdmo.clear.ml`"
        )
    if left.labelled:
        yield (
            f"{_count(len(left.labelled), 'node')} with the label {PARTITIONING_LABEL} ({named(left.labelled)}): a "
            f"CDMO that is installed later takes them up again. `kubectl label nodes NODE_NAME {PARTITIONING_LABEL}-`"
        )


def named(names: tuple[str, ...], most: int = 5) -> str:
    """Some of the names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
