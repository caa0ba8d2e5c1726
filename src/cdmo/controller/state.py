"""From the live mirrors to one unchanging snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from cdmo.api.v1alpha1 import MigNode
from cdmo.api.view import view_of
from cdmo.controller.promises import Promises
from cdmo.controller.publish import overtaken
from cdmo.kube.port import Mirror
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Host, MigNodeView, Snapshot
from cdmo.model.storage import ClaimInfo, ClassInfo, Storage, VolumeInfo
from cdmo.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The live copies the controller decides from."""

    pods: Mirror[PodInfo]
    nodes: Mirror[NodeInfo]
    mignodes: Mirror[MigNode]
    claims: Mirror[ClaimInfo]
    volumes: Mirror[VolumeInfo]
    classes: Mirror[ClassInfo]
    namespaces: Mirror[Mapping[str, str]]  # their labels

    def synced(self) -> bool:
        """Whether all have seen a full list: before that nothing is planned."""
        return (
            self.pods.synced()
            and self.nodes.synced()
            and self.mignodes.synced()
            and self.claims.synced()
            and self.volumes.synced()
            and self.classes.synced()
            and self.namespaces.synced()
        )


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

    def forget(self, name: str) -> None:
        """A node is gone. Also a standby hears beats, and nodes come and go."""
        self._heard.pop(name, None)

    def keep(self, names: Mapping[str, object]) -> None:
        """Forget nodes that are gone."""
        self._heard = {name: value for name, value in self._heard.items() if name in names}


class ClusterState:
    """What the mirrors show, arranged for planning, and brought up to date with what changed.

    A snapshot shares every view with the one before that is still true, for the planner recognises those.
    """

    def __init__(self, mirrors: Mirrors, heartbeats: Heartbeats, policy: Policy) -> None:
        self._mirrors = mirrors
        self._heartbeats = heartbeats
        self._policy = policy
        self._places: dict[str, str] = {}  # pod to node, of the unfinished pods that are on one
        self._bound: defaultdict[str, dict[str, PodInfo]] = defaultdict(dict)  # by node
        self._pending: dict[str, PodInfo] = {}
        self._mignodes: dict[str, MigNode] = {}
        self._withholding: set[str] = set()
        self._unconfirmed: set[str] = set()
        self._views: dict[str, MigNodeView] = {}
        self._hosts: dict[str, Host] = {}
        self._all_views: tuple[MigNodeView, ...] = ()
        self._all_hosts: tuple[Host, ...] = ()

    def snapshot(self, promises: Promises, now: float) -> Snapshot:
        """The question of this round. Patience is told by `promises`, which has to be reviewed before."""
        return Snapshot(
            now=now,
            nodes=self._all_views,
            pending=self.pending(),
            others=self._all_hosts,
            namespaces=self._mirrors.namespaces.items(),
            assignments=promises.assignments(),
            avoid=promises.avoid(),
        )

    def pending(self) -> tuple[PodInfo, ...]:
        """The pods that wait for slices, with what their volumes ask of a node."""
        pods = [self._pending[key] for key in sorted(self._pending)]
        if any(pod.claims for pod in pods):
            mirrors = self._mirrors
            storage = Storage(mirrors.claims.items(), mirrors.volumes.items(), mirrors.classes.items())
            pods = [storage.with_volumes(pod) for pod in pods]
        return tuple(pods)

    @property
    def waiting(self) -> int:
        """How many pods wait for slices."""
        return len(self._pending)

    def mignode(self, name: str) -> MigNode | None:
        """The MigNode as the last snapshot shows it: what is planned from it is written onto it and no other."""
        return self._mignodes.get(name)

    def withholding(self) -> frozenset[str]:
        """The nodes whose MigNodes, as the last snapshot shows them, withhold slices."""
        return frozenset(self._withholding)

    def unconfirmed(self) -> frozenset[str]:
        """The nodes that the last snapshot lets plan on and whose layouts were overtaken by an instance."""
        return frozenset(self._unconfirmed)

    def catch_up(self) -> None:
        """Bring in everything that changed since the last time."""
        nodes, pods = self._mirrors.nodes, self._mirrors.pods
        touched = nodes.changed()
        there = pods.items()
        for key in pods.changed():
            self._take_pod(key, there.get(key), touched)
        self._take_mignodes(touched)
        for each in (self._mirrors.claims, self._mirrors.volumes, self._mirrors.classes, self._mirrors.namespaces):
            each.changed()  # these are read as they are; what nobody takes would pile up
        known = nodes.items()
        for name in touched:
            self._arrange(name, known.get(name))
        if touched:
            self._all_views = tuple(self._views[name] for name in sorted(self._views))
            self._all_hosts = tuple(self._hosts[name] for name in sorted(self._hosts))

    def _take_pod(self, key: str, pod: PodInfo | None, touched: set[str]) -> None:
        before = self._places.pop(key, "")
        if before:
            del self._bound[before][key]
            touched.add(before)
        self._pending.pop(key, None)
        if pod is None:
            return
        if is_pending(pod, self._policy):
            self._pending[key] = pod
        if is_placed(pod):
            self._places[key] = pod.node_name
            self._bound[pod.node_name][key] = pod
            touched.add(pod.node_name)

    def _take_mignodes(self, touched: set[str]) -> None:
        there = self._mirrors.mignodes.items()
        for name in self._mirrors.mignodes.changed():
            before, now = self._mignodes.get(name), there.get(name)
            if before is None or now is None or not only_beat(before, now):
                touched.add(name)
            self._withholding.discard(name)
            if now is None:
                self._mignodes.pop(name, None)
            else:
                self._mignodes[name] = now
                if any(each.withheld for each in now.spec.gpus):
                    self._withholding.add(name)
        self._heartbeats.keep(self._mignodes)
        for name, mignode in self._mignodes.items():
            view = self._views.get(name)
            if view is not None and view.alive != self._heartbeats.alive(mignode):
                touched.add(name)

    def _arrange(self, name: str, node: NodeInfo | None) -> None:
        self._views.pop(name, None)
        self._hosts.pop(name, None)
        self._unconfirmed.discard(name)
        if not self._bound[name]:
            del self._bound[name]
        if node is None:
            return
        bound = self._bound.get(name, {})
        pods = tuple(bound[key] for key in sorted(bound))
        mignode = self._mignodes.get(name)
        if mignode is None:
            self._hosts[name] = Host(node, pods)
        else:
            view = self._views[name] = view_of(node, mignode, self._heartbeats.alive(mignode), pods)
            if view.managed and view.alive and not view.problem and overtaken(mignode):
                self._unconfirmed.add(name)


def only_beat(before: MigNode, now: MigNode) -> bool:
    """Whether nothing but the agent's heartbeat differs that a plan looks at."""
    one, two = before.status, now.status
    return (
        before.spec == now.spec
        and (one.agent is None) == (two.agent is None)
        and one.revision == two.revision
        and one.gpus == two.gpus
        and one.models == two.models
        and one.conditions == two.conditions
    )


def calls_for_a_round(before: PodInfo | None, now: PodInfo | None, policy: Policy) -> bool:
    """Whether a plan looks at a pod as it was or as it is.

    One that the scheduler has not judged yet is no news, and a round for it would put off the one for its judgement,
    which follows within milliseconds.
    """
    return any(is_placed(each) or is_pending(each, policy) for each in (before, now) if each is not None)


def is_placed(pod: PodInfo) -> bool:
    """Whether a pod takes room on a node."""
    return bool(pod.node_name) and not pod.finished


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
