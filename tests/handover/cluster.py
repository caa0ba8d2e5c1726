"""A cluster in memory with one node, its agent and NVIDIA's programs, as an administrator's commands meet them.

The agent takes up what the MigNode says at the second look after it was said, one GPU at a time, and changes nothing
that a pod uses. Time passes only while somebody sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from msgspec.structs import replace as changed

from cdmo.api.v1alpha1 import (
    AgentInfo,
    Condition,
    Metadata,
    MigNode,
    MigNodeSpec,
    MigNodeStatus,
    Mode,
    ModelProfile,
    ObservedGpu,
    ObservedModel,
)
from cdmo.errors import ClusterUnavailable, NotFound
from cdmo.handover.port import NodePod
from cdmo.model.cluster import NodeInfo, PodInfo, labelled
from cdmo.model.gpu import MigMode, PodKey
from cdmo.model.names import MIG_MODE_ANNOTATION, PARTITIONING_LABEL, PARTITIONING_VALUE
from tests.fakes.clock import HastyClock

NAME = "gpu-1"
WHOLE = "nvidia.com/gpu"
SLICE = "nvidia.com/mig-3g.40gb"
CUT = ObservedModel(
    product="NVIDIA H100 80GB HBM3",
    memory_slots=8,
    profiles=(ModelProfile(id=9, name="3g.40gb", resource=SLICE, compute_slices=3, size=4, max=2, memory_mib=40448),),
)
UNCUT = ObservedModel(product="NVIDIA L40S", memory_slots=0)
BUSES = ("00000000:10:00.0", "00000000:20:00.0")


@dataclass
class FakeCluster:
    """Set `resetless` to False for Ampere; `agent` to False for an agent that is not there."""

    model: ObservedModel = CUT
    on: bool = True  # MIG mode at the beginning
    resetless: bool = True
    agent: bool = True
    controller: bool = True
    plugin: bool = True
    budget: int = 0  # evictions that a PodDisruptionBudget refuses first
    away: ClusterUnavailable | None = None  # what every change fails with
    clock: HastyClock = field(default_factory=HastyClock)
    info: NodeInfo | None = field(init=False)
    object: MigNode | None = field(init=False)
    pods: dict[PodKey, NodePod] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    on_look: Callable[[int], None] = lambda _: None

    def __post_init__(self) -> None:
        self.info = NodeInfo(NAME, labels={PARTITIONING_LABEL: PARTITIONING_VALUE})
        mode = MigMode.ENABLED if self.on else MigMode.DISABLED
        gpus = tuple(ObservedGpu(pci_bus_id=bus, uuid=f"GPU-{bus}", model=0, mig_mode=mode) for bus in BUSES)
        self.object = MigNode(
            metadata=Metadata(name=NAME, generation=1), status=MigNodeStatus(models=(self.model,), gpus=gpus)
        )
        self._looks = 0
        self._report()
        self._offer()

    # --- what a test arranges -------------------------------------------------------------------------------

    def unlabel(self) -> None:
        """The page's step 2 was done by hand, or none of CDMO's ever."""
        assert self.info is not None
        self.info = replace(self.info, labels={})

    def run_pod(self, name: str, resource: str = SLICE, owner: str = "Job", **more: object) -> PodKey:
        """A pod on the node."""
        key = PodKey("ml", name, f"uid-{name}")
        pod = PodInfo(key, phase="Running", node_name=NAME, requests={resource: 1} if resource else {}, **more)  # type: ignore[arg-type]  # PodInfo's own fields
        self.pods[key] = NodePod(pod, owner)
        return key

    def modes(self) -> list[str]:
        """The MIG mode of each GPU."""
        assert self.object is not None
        return [each.mig_mode for each in self.object.status.gpus]

    # --- the agent ------------------------------------------------------------------------------------------

    def _live(self) -> None:
        """What happens between two looks of somebody who waits."""
        self._looks += 1
        self.on_look(self._looks)
        if not self.agent or self.object is None or self.info is None or not labelled(self.info):
            return
        taken_up = self.object.status.observed_generation == self.object.metadata.generation
        if taken_up and not self._busy():
            self._switch_one()
        self._report()
        self._offer()

    def _busy(self) -> bool:
        return any(any(name.startswith("nvidia.com/") for name in each.pod.requests) for each in self.pods.values())

    def _wish(self) -> bool | None:
        assert self.object is not None and self.info is not None
        if self.object.spec.mode is Mode.DISABLED:
            return False
        return True if self.info.mig_mode in ("when-idle", "with-reset") else None

    def _switch_one(self) -> None:
        assert self.object is not None and self.info is not None
        wish = self._wish()
        wanted = MigMode.ENABLED if wish else MigMode.DISABLED
        gpus = list(self.object.status.gpus)
        for index, gpu in enumerate(gpus):
            if wish is None or gpu.mig_mode == wanted or not self.model.profiles:
                continue
            may_reset = self.info.mig_mode == "with-reset" and not self._clients()
            if self.resetless or may_reset:
                gpus[index] = changed(gpu, mig_mode=wanted)
            elif not wish or self.info.mig_mode == "with-reset":
                gpus[index] = changed(gpu, mig_mode=MigMode.ENABLE_PENDING if wish else MigMode.DISABLE_PENDING)
            break
        self.object = changed(self.object, status=changed(self.object.status, gpus=tuple(gpus)))

    def _clients(self) -> list[NodePod]:
        return [each for each in self.pods.values() if each.pod.node_selector]

    def _report(self) -> None:
        if not self.agent or self.object is None:
            return
        beat = datetime.fromtimestamp(self.clock.now(), UTC).isoformat()
        forbidden = self._wish() and not self.resetless and "Disabled" in self.modes()
        reason = "ResetNeeded" if forbidden and self.info and self.info.mig_mode == "when-idle" else "AsWanted"
        status = changed(
            self.object.status,
            observed_generation=self.object.metadata.generation,
            agent=AgentInfo(version="1", heartbeat=beat),
            conditions=(Condition(type="MigModeSettled", status="False", reason=reason, message=""),),
        )
        self.object = changed(self.object, status=status)

    def _offer(self) -> None:
        assert self.info is not None
        whole = self.modes().count("Disabled") if self.plugin else 0
        self.info = replace(self.info, allocatable={**self.info.allocatable, WHOLE: whole})

    # --- HandoverApi ----------------------------------------------------------------------------------------

    async def node(self, name: str) -> NodeInfo | None:
        return self.info if name == NAME else None

    async def mignode(self, name: str) -> MigNode | None:
        self._live()
        return self.object if name == NAME else None

    async def pods_on(self, node: str) -> tuple[NodePod, ...]:
        self._live()
        return tuple(self.pods.values())

    async def mark_node(
        self, name: str, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
    ) -> None:
        assert self.info is not None
        if self.away is not None:
            raise self.away
        marks = {**labels, **annotations}.items()
        said = [f"{key}={value}" if value is not None else f"{key}-" for key, value in marks]
        self.calls.append("mark " + " ".join(said))
        merged = {key: value for key, value in {**self.info.labels, **labels}.items() if value is not None}
        mode = annotations.get(MIG_MODE_ANNOTATION, self.info.mig_mode) or ""
        self.info = replace(self.info, labels=merged, mig_mode=mode)
        for key, each in list(self.pods.items()):
            if any(merged.get(label) != value for label, value in each.pod.node_selector):
                del self.pods[key]

    async def set_mode(self, name: str, mode: Mode) -> MigNode:
        assert self.object is not None
        self.calls.append(f"mode {mode}")
        metadata = changed(self.object.metadata, generation=self.object.metadata.generation + 1)
        self.object = changed(self.object, metadata=metadata, spec=MigNodeSpec(mode=mode))
        return self.object

    async def evict(self, pod: PodKey) -> None:
        self.calls.append(f"evict {pod}")
        if self.budget:
            self.budget -= 1
            raise ClusterUnavailable("too many requests: a PodDisruptionBudget")
        if pod not in self.pods:
            raise NotFound(f"no pod {pod}")
        del self.pods[pod]
