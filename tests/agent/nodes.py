"""A node with everything a change needs, in memory; a test says what is on it and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from cdmo.agent.apply import Applier
from cdmo.agent.change import PHASE_LIMITS, Decide, NodeChange, Phase, Progress, QuietLimits
from cdmo.agent.fence import Fence, FenceLimits
from cdmo.agent.journal import Journal
from cdmo.agent.observe import Observation, Observer
from cdmo.agent.steps import SeenGpu, SeenInstance, Steps, steps_for
from cdmo.agent.whole_gpus import WholeGpus
from cdmo.agent.witness import Witness
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import DeviceState, Placement, PodKey
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.worker import Worker
from tests.fakes.clock import HastyClock
from tests.fakes.hardware import FakeGpus, fake_gpus
from tests.fakes.node import FakeNode

BUS = "00000000:10:00.0"
THREE = "nvidia.com/mig-3g.40gb"
ONE = "nvidia.com/mig-1g.10gb"
THREE_LOW, THREE_HIGH, SEVEN = Placement(9, 0), Placement(9, 4), Placement(0, 0)


def at_call(node: FakeNode, call: str, number: int, act: Callable[[], None]) -> None:
    """Do something when the call is made for this time."""
    seen = 0

    def noted(made: str) -> None:
        nonlocal seen
        seen += made == call
        if made == call and seen == number:
            act()

    node.on_call = noted


class Recorded:
    """A Progress that remembers, and that may act when a phase begins."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def entered(self, phase: Phase) -> None:
        self.phases.append(phase)


class NoDeviceNodes:
    """Remembers for which instances device nodes were made."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []

    def ensure(self, gpu_minor: int, gpu_instance: int, compute_instances: tuple[int, ...]) -> None:
        self.made.append((gpu_minor, gpu_instance))


class Rig:
    """One GPU, its node, and the change under test."""

    def __init__(
        self,
        folder: Path,
        *slices: Placement,
        driver_limit: float = 10.0,
        card: str = "H100-SXM5-80GB",
        mig: bool = True,
    ) -> None:
        """driver_limit: seconds after which a driver call is given up. mig: MIG mode is on."""
        self.gpus: FakeGpus = fake_gpus(card, mig=mig)
        self.uuids: dict[Placement, str] = {}
        for placement in slices:
            self.uuids[placement] = self.gpus.create(BUS, placement).device_uuid
        self.node = FakeNode(self.gpus)
        self.clock = HastyClock()
        self.driver_limit = driver_limit
        self.late: list[bool] = []  # of each driver call that came back, whether it had been given up
        self.worker = Worker("nvml", SystemClock(), driver_limit, self.late.append)
        self.limits = dict(PHASE_LIMITS)
        self.progress = Recorded()
        self.device_nodes = NoDeviceNodes()
        self.journal = Journal(folder / "journal.json")
        self.observer = Observer(self.gpus, self.node, self.worker, lambda: tuple(self.node.pods.values()))
        self.fence = Fence(self.node, self.node.name, self.clock, FenceLimits(), witness_of(self.node, self.clock))
        self.change = self.new_change(self.progress)

    def new_change(self, progress: Progress) -> NodeChange:
        """The change under test, which tells `progress` where it is."""
        return NodeChange(
            self.node.name,
            fence=self.fence,
            api=self.node,
            observer=self.observer,
            applier=Applier(self.gpus, self.gpus, self.device_nodes, self.worker, self.driver_limit),
            plugin=self.node,
            whole_gpus=WholeGpus(self.node.name, self.node, self.node, self.clock),
            journal=self.journal,
            clock=self.clock,
            progress=progress,
            quiet=QuietLimits(),
            limits=self.limits,
        )

    def layout(self) -> set[Placement]:
        """What is on the GPU now."""
        return {each.placement for gpu in self.gpus.read().gpus for each in gpu.instances}

    def wanting(self, *layout: Placement) -> Decide:
        """The decision for this layout; everything that is there was seen by the controller."""
        layouts: Mapping[str, tuple[Placement, ...]] = {BUS: tuple(sorted(layout))}

        def decide(observation: Observation, node: NodeInfo) -> Steps:
            seen = tuple(
                SeenGpu(
                    gpu.pci_bus_id,
                    gpu.mig_mode,
                    gpu.model,
                    tuple(
                        SeenInstance(each.placement, 1, broken=observation.state_of(each) is DeviceState.BROKEN)
                        for each in gpu.instances
                    ),
                )
                for gpu in observation.driver.gpus
            )
            return steps_for(layouts, seen, observed_revision=1)

        return decide


def witness_of(node: FakeNode, clock: HastyClock) -> Witness:
    """The witness of the node's changes, which are numbered."""
    numbers = count(1)
    return Witness(node, node.name, clock, lambda: f"change-{next(numbers)}", FenceLimits().heard)


def pod(name: str, asks: Mapping[str, int], *, phase: str = "Pending") -> PodInfo:
    """A pod that asks for slices."""
    return PodInfo(PodKey("ml", name, f"uid-{name}"), requests=dict(asks), phase=phase)
