"""PURE: how far a node is on its way to CDMO or back, from what the API server has of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cdmo.api.v1alpha1 import MigNode, ObservedGpu
from cdmo.handover.port import NodePod
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import MigMode, PodKey
from cdmo.model.names import RESOURCE_PREFIX, is_whole_gpu_resource
from cdmo.model.policy import AGENT_SILENT_AFTER
from cdmo.model.reasons import ConditionType, ModeReason, ReadyReason

# Words in which a GPU is at the end of its way; one that has only been noted by the driver is not.
_PENDING = {MigMode.ENABLE_PENDING: True, MigMode.DISABLE_PENDING: False}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a node is. `sentence` goes on where the node's name ends."""

    sentence: str
    done: bool = False
    needs: str = ""  # what somebody has to do before it can go on, with the reason; empty: it goes on by itself


@dataclass(frozen=True, slots=True)
class User:
    """A pod that uses GPUs, or slices of them."""

    pod: PodKey
    asks: str  # "1 nvidia.com/mig-3g.40gb"
    comes_back: bool  # its DaemonSet would make it anew on the same node

    def __str__(self) -> str:
        return f"{self.pod} ({self.asks})"


def users_of(pods: Iterable[NodePod]) -> tuple[User, ...]:
    """The pods that keep a node's GPUs, by name."""
    using = (User(each.pod.key, asks, each.owner == "DaemonSet") for each in pods if (asks := _asks(each.pod)))
    return tuple(sorted(using, key=lambda each: each.pod))


def _asks(pod: PodInfo) -> str:
    if pod.finished:
        return ""
    asked = ((name, count) for name, count in sorted(pod.requests.items()) if name.startswith(RESOURCE_PREFIX))
    return ", ".join(f"{count} {name}" for name, count in asked if count)


def giving_back(mignode: MigNode, now: float) -> Standing:
    """How far a node is whose GPUs are given back whole. `now`: unix time in seconds."""
    return _unheard(mignode, now) or _on_the_way(mignode, False)


def taking_up(mignode: MigNode, now: float, *, switches: bool) -> Standing:
    """How far a node is that CDMO takes up. `switches`: MIG mode is to be on in the end, on every GPU that has it."""
    unheard = _unheard(mignode, now)
    if unheard is not None:
        return unheard
    if not switches:
        capable = _capable(mignode)
        on = sum(each.mig_mode == MigMode.ENABLED for each in capable)
        return Standing(f"MIG mode is on on {on} of {len(capable)} GPUs; the others stay whole", done=True)
    return _on_the_way(mignode, True)


def can_be_cut(mignode: MigNode) -> bool:
    """Whether any GPU that the agent has seen can be cut; true while it has seen none."""
    return not mignode.status.gpus or bool(_capable(mignode))


def whole_gpus_offered(node: NodeInfo) -> int:
    """How many whole GPUs, or shares of them, the Node offers."""
    return sum(count for name, count in node.allocatable.items() if is_whole_gpu_resource(name))


def is_whole(mignode: MigNode) -> bool:
    """Whether nothing is left to give back, by what was reported last; not while nothing was."""
    return bool(mignode.status.gpus) and all(each.mig_mode == MigMode.DISABLED for each in _capable(mignode))


def capable_gpus(mignode: MigNode) -> int:
    """How many of the node's GPUs can be cut."""
    return len(_capable(mignode))


def _unheard(mignode: MigNode, now: float) -> Standing | None:
    """Why nothing is known of what the agent makes of the newest word to it; None where it has taken it up."""
    agent = mignode.status.agent
    if agent is None:
        return Standing("its agent has not reported yet")
    try:
        silent = now - datetime.fromisoformat(agent.heartbeat.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        silent = 0.0
    if silent > AGENT_SILENT_AFTER:
        return Standing(f"its agent has been silent for {silent:.0f} s: does its pod run?")
    if mignode.status.observed_generation < mignode.metadata.generation:
        return Standing("its agent has not taken it up yet")
    if not mignode.status.gpus:
        ready = next((each.message for each in mignode.status.conditions if each.type == ConditionType.READY), "")
        return Standing(f"its agent has not seen its GPUs yet{f': {ready}' if ready else ''}")
    return None


def _on_the_way(mignode: MigNode, on: bool) -> Standing:
    capable, conditions = _capable(mignode), {each.type: each for each in mignode.status.conditions}
    there = sum(each.mig_mode == (MigMode.ENABLED if on else MigMode.DISABLED) for each in capable)
    state = f"MIG mode is {'on' if on else 'off'} on {there} of {len(capable)} GPUs"
    if there == len(capable):
        return Standing(state, done=True)
    modes, ready = conditions.get(ConditionType.MODE_SETTLED), conditions.get(ConditionType.READY)
    said = f"{state}: {modes.message}" if modes is not None and modes.message else state
    if any(_PENDING.get(_mode(each)) is on for each in capable):
        return Standing(said, needs="reboot the node, or have its GPUs reset (`--reset`)")
    if modes is not None and modes.reason == ModeReason.RESET_NEEDED:
        return Standing(said, needs="allow the reset (`--reset`), or switch MIG mode by hand and reboot the node")
    fine = (ReadyReason.READY, ReadyReason.DISABLED)
    if ready is not None and ready.reason not in fine and (ready.message or ready.reason) not in said:
        said = f"{said}; {ready.message or ready.reason}"
    return Standing(said)


def _capable(mignode: MigNode) -> list[ObservedGpu]:
    models = mignode.status.models
    return [each for each in mignode.status.gpus if each.model < len(models) and models[each.model].profiles]


def _mode(gpu: ObservedGpu) -> MigMode:
    return MigMode(gpu.mig_mode) if gpu.mig_mode in frozenset(MigMode) else MigMode.UNSUPPORTED
