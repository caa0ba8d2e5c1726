"""From the live mirrors to one unchanging snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdmo.api.convert import Layouts, gpus_from_api, layouts_from_spec, model_from_api
from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.controller.promises import Promises
from cdmo.errors import BadSpec
from cdmo.kube.port import Mirror
from cdmo.model.cluster import NodeInfo, PodInfo, labelled
from cdmo.model.policy import Policy
from cdmo.model.reasons import ConditionType, ReadyReason
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The live copies the controller decides from."""

    pods: Mirror[PodInfo]
    nodes: Mirror[NodeInfo]
    mignodes: Mirror[MigNode]

    def synced(self) -> bool:
        """Whether all have seen a full list: before that nothing is planned."""
        return self.pods.synced() and self.nodes.synced() and self.mignodes.synced()


class Heartbeats:
    """How long ago each agent was heard, by this process' own clock: the clocks of nodes are not trusted."""

    def __init__(self, clock: Clock, silent_after: float) -> None:
        self._clock = clock
        self._silent_after = silent_after
        self._heard: dict[str, tuple[str, float]] = {}

    def silent_for(self, mignode: MigNode) -> float:
        """Seconds since the heartbeat last changed."""
        name, beat = mignode.metadata.name, mignode.status.agent.heartbeat if mignode.status.agent else ""
        now = self._clock.monotonic()
        before = self._heard.get(name)
        if before is None or before[0] != beat:
            self._heard[name] = (beat, now)
            return 0.0
        return now - before[1]

    def alive(self, mignode: MigNode) -> bool:
        """Whether there is an agent and it was heard lately."""
        return mignode.status.agent is not None and self.silent_for(mignode) < self._silent_after

    def keep(self, names: Mapping[str, object]) -> None:
        """Forget nodes that are gone."""
        self._heard = {name: value for name, value in self._heard.items() if name in names}


def take_snapshot(
    mirrors: Mirrors, heartbeats: Heartbeats, promises: Promises, policy: Policy, now: float
) -> Snapshot:
    """The question of this round."""
    mignodes = mirrors.mignodes.items()
    nodes = mirrors.nodes.items()
    pods = mirrors.pods.items()
    heartbeats.keep(mignodes)
    bound: defaultdict[str, list[PodInfo]] = defaultdict(list)
    for _, pod in sorted(pods.items()):
        if pod.node_name and not pod.finished:
            bound[pod.node_name].append(pod)
    views = tuple(
        view_of(node, mignodes[name], heartbeats.alive(mignodes[name]), bound[name])
        for name, node in sorted(nodes.items())
        if name in mignodes
    )
    return Snapshot(
        now=now,
        nodes=views,
        pending=tuple(pod for _, pod in sorted(pods.items()) if is_pending(pod, policy)),
        assignments=promises.assignments(),
        avoid=promises.avoid(),
    )


def is_pending(pod: PodInfo, policy: Policy) -> bool:
    """Whether a pod waits for slices: the scheduler tried it and found no place.

    A pod the scheduler has not tried may fit slices that are already there, also on nodes that are not CDMO's.
    """
    return (
        bool(pod.demand)
        and not pod.node_name
        and not pod.finished
        and not pod.gated
        and not pod.terminating
        and pod.unschedulable
        and pod.scheduler_name in policy.scheduler_names
    )


def view_of(node: NodeInfo, mignode: MigNode, alive: bool, bound: Iterable[PodInfo] = ()) -> MigNodeView:
    """One node as the planner sees it, with the unfinished pods that are bound to it."""
    managed = labelled(node) and mignode.spec.mode is Mode.MANAGED
    desired, problem = _desired(mignode)
    return MigNodeView(
        node=node,
        models=tuple(model_from_api(each) for each in mignode.status.models),
        gpus=gpus_from_api(mignode),
        desired=desired,
        managed=managed,
        alive=alive,
        problem=problem or _problem(mignode),
        pods=tuple(bound),
    )


def _desired(mignode: MigNode) -> tuple[Layouts, str]:
    try:
        return layouts_from_spec(mignode), ""
    except BadSpec as error:
        return {}, str(error)


def _problem(mignode: MigNode) -> str:
    for each in mignode.status.conditions:
        # A change that failed is planned around: the next status shows what stood in its way.
        # A spec that cannot be carried out is written anew, from what is there.
        tolerable = (ReadyReason.CHANGE_FAILED, ReadyReason.BAD_SPEC)
        if each.type == ConditionType.READY and each.status != "True" and each.reason not in tolerable:
            return each.message or each.reason
    return ""
