"""A controller with its mirrors in memory: a test says what is in the cluster, and asks for rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from msgspec.structs import replace

from cdmo.api.convert import layouts_to_spec, model_to_api
from cdmo.api.v1alpha1 import (
    AgentInfo,
    Metadata,
    MigNode,
    MigNodeSpec,
    MigNodeStatus,
    ObservedDevice,
    ObservedGpu,
    PodReference,
)
from cdmo.controller.fences import FenceSettings, StaleFences
from cdmo.controller.loop import ControllerLoop, RoundSettings
from cdmo.controller.metrics import ControllerMetrics
from cdmo.controller.promises import Patience, Promises
from cdmo.controller.publish import Publisher
from cdmo.controller.state import ClusterState, Heartbeats, Mirrors
from cdmo.controller.trigger import Trigger
from cdmo.kube.port import Mirror
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import Gpu
from cdmo.model.policy import Policy
from cdmo.model.snapshot import MigNodeView
from cdmo.model.storage import ClaimInfo, ClassInfo, VolumeInfo
from cdmo.runtime.pulse import Pulse
from tests.fakes.clock import VirtualClock
from tests.fakes.hardware import fake_gpus
from tests.fakes.mignodes import FakeMigNodes, RememberedEvents
from tests.fakes.node import FakeNode
from tests.planner.expect import Judged

T = TypeVar("T")

MIRRORED = ("pods", "nodes", "mignodes", "claims", "volumes", "classes", "namespaces")
BEAT = AgentInfo(version="1", heartbeat="2026-01-01T00:00:00Z")


def observed(gpu: Gpu) -> ObservedGpu:
    """A GPU as its agent reports it."""
    return ObservedGpu(
        pci_bus_id=gpu.pci_bus_id,
        uuid=gpu.uuid,
        model=gpu.model,
        mig_mode=gpu.mig_mode,
        problem=gpu.problem,
        devices=tuple(
            ObservedDevice(
                profile_id=each.placement.profile_id,
                start=each.placement.start,
                uuid=each.uuid,
                state=each.state,
                revision=1,
                pod=PodReference(namespace=each.pod.namespace, name=each.pod.name, uid=each.pod.uid)
                if each.pod
                else None,
            )
            for each in gpu.slices
        ),
    )


def mignode_of(view: MigNodeView, revision: int = 7) -> MigNode:
    """The MigNode behind a view of the builders."""
    return MigNode(
        metadata=Metadata(name=view.node.name),
        spec=MigNodeSpec(observed_revision=revision, gpus=layouts_to_spec(dict(view.desired), {})),
        status=MigNodeStatus(
            revision=revision,
            agent=BEAT,
            models=tuple(model_to_api(each) for each in view.models),
            gpus=tuple(observed(each) for each in view.gpus),
        ),
    )


class Shown(Generic[T]):
    """A mirror of whatever a dict holds at the moment."""

    def __init__(self, items: Callable[[], Mapping[str, T]]) -> None:
        self._items = items
        self._told: dict[str, T] = {}

    def changed(self) -> set[str]:
        """Keys whose values are other ones than when this was last asked."""
        now = dict(self._items())
        before, self._told = self._told, now
        return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}

    def mirror(self, synced: Callable[[], bool]) -> Mirror[T]:
        """What a controller reads."""
        return Mirror(self._items, synced, self.changed)


class Bench:
    """The controller under test. Its mirrors show `pods`, `nodes` and, unless frozen, what the API server has."""

    def __init__(self, *views: MigNodeView, pods: Iterable[PodInfo] = ()) -> None:
        self.clock = VirtualClock()
        self.pods = {str(each.key): each for each in pods}
        self.nodes: dict[str, NodeInfo] = {each.node.name: each.node for each in views}
        self.api = FakeMigNodes(*map(mignode_of, views))
        self.mirrored: dict[str, MigNode] | None = None  # what the mirror shows when it lags behind the API server
        self.events = RememberedEvents()
        self.synced = dict.fromkeys(MIRRORED, True)
        self.leading = True
        self.fence_api = FakeNode(fake_gpus("H100-SXM5-80GB"))
        self.trigger = Trigger(self.clock, 0.05)
        self.promises = Promises(Patience(patience=30.0, first_pause=40.0, longest_pause=100.0))
        self.heartbeats = Heartbeats(self.clock, silent_after=45.0)
        self.claims: dict[str, ClaimInfo] = {}
        self.volumes: dict[str, VolumeInfo] = {}
        self.classes: dict[str, ClassInfo] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.mirrors = Mirrors(
            Shown(lambda: self.pods).mirror(lambda: self.synced["pods"]),
            Shown(lambda: self.nodes).mirror(lambda: self.synced["nodes"]),
            Shown(lambda: self.api.nodes if self.mirrored is None else self.mirrored).mirror(
                lambda: self.synced["mignodes"]
            ),
            Shown(lambda: self.claims).mirror(lambda: self.synced["claims"]),
            Shown(lambda: self.volumes).mirror(lambda: self.synced["volumes"]),
            Shown(lambda: self.classes).mirror(lambda: self.synced["classes"]),
            Shown(lambda: self.namespaces).mirror(lambda: self.synced["namespaces"]),
        )
        self.state = ClusterState(self.mirrors, self.heartbeats, Policy())
        self.metrics = ControllerMetrics()
        self.pulse = Pulse(self.clock, 180.0)
        self.loop = ControllerLoop(
            self.mirrors,
            trigger=self.trigger,
            state=self.state,
            planner=Judged(),
            promises=self.promises,
            publisher=Publisher(self.api),
            fences=StaleFences(self.mirrors, self.heartbeats, self.fence_api, self.events, FenceSettings()),
            sink=self.events,
            policy=Policy(),
            is_leader=lambda: self.leading,
            metrics=self.metrics,
            pulse=self.pulse,
            clock=self.clock,
            settings=RoundSettings(patience=30.0),
        )

    def beat(self, name: str, text: str) -> None:
        """The agent writes its heartbeat and nothing else."""
        status = self.api.nodes[name].status
        assert status.agent is not None
        self.api.set_status(name, replace(status, agent=replace(status.agent, heartbeat=text)))

    def specs(self) -> dict[str, dict[str, list[tuple[int, int]]]]:
        """Every node's desired layouts: bus to (profile id, start)."""
        return {
            name: {gpu.pci_bus_id: [(each.profile_id, each.start) for each in gpu.layout] for gpu in node.spec.gpus}
            for name, node in self.api.nodes.items()
        }

    def written(self) -> list[str]:
        """Calls that wrote something, in order."""
        return [each for each in self.api.calls if not each.startswith("get")]
