"""An agent's loop on a node in memory; a test says what the API server shows, and asks for rounds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as changed

from cdmo.agent.loop import AgentLoop, LoopSettings
from cdmo.agent.lost_modes import LostModes
from cdmo.agent.marker import Marker
from cdmo.agent.metrics import AgentMetrics
from cdmo.agent.observe import Observer
from cdmo.agent.status import Heart, StatusKeeper
from cdmo.agent.watch import ChangeWatch
from cdmo.api.convert import layouts_to_spec
from cdmo.api.v1alpha1 import Condition, Metadata, MigNode, MigNodeSpec, MigNodeStatus, Mode
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import Placement
from cdmo.runtime.pulse import Pulse
from tests.agent.nodes import BUS, Rig
from tests.fakes.mignodes import FakeMigNodes, RememberedEvents

NAME = "gpu-1"


class AgentBench:
    """The loop under test. Its mirrors follow the API server unless `lagging_node` holds an older Node."""

    def __init__(
        self,
        folder: Path,
        *slices: Placement,
        status: MigNodeStatus | None = None,
        driver_limit: float = 10.0,
        card: str = "H100-SXM5-80GB",
        mig: bool = True,
    ) -> None:
        self.rig = Rig(folder, *slices, driver_limit=driver_limit, card=card, mig=mig)
        self._folder = folder
        self.node = self.rig.node
        self.gpus = self.rig.gpus
        self.clock = self.rig.clock
        self.api = FakeMigNodes(MigNode(metadata=Metadata(name=NAME), status=status or MigNodeStatus()))
        self.events = RememberedEvents()
        self.boot_id = "boot-1"
        self.lagging_node: NodeInfo | None = None
        self.settings = LoopSettings()  # of the agent that `new_agent` makes
        self.loop = self.new_agent()

    def new_agent(self) -> AgentLoop:
        """Another agent for the same node, as after a restart."""
        clock = self.clock
        self.metrics = AgentMetrics()
        self.pulse = Pulse(clock, 240.0)
        self.keeper = StatusKeeper(NAME, self.api, clock, 10.0)
        self.watch = ChangeWatch(self.rig.progress, clock, self.rig.limits, self.metrics.phase_ended)
        self.rig.change = self.rig.new_change(self.watch)
        self.heart = Heart(
            self.keeper,
            self.pulse,
            self.watch,
            sink=self.events,
            node=lambda: self.node.info,
            clock=clock,
            pause=2.0,
        )
        self.loop = AgentLoop(
            mirror=lambda: (self.lagging_node or self.node.info, self.api.nodes.get(NAME)),
            pods_here=lambda: tuple(each for each in self.node.pods.values() if each.node_name == NAME),
            observer=Observer(self.gpus, self.node, self.rig.worker, lambda: tuple(self.node.pods.values())),
            pods=self.node,
            change=self.rig.change,
            watch=self.watch,
            journal=self.rig.journal,
            lost_modes=LostModes(self._folder / "lost-modes.json"),
            marker=Marker(self.node),
            status=self.keeper,
            events=self.events,
            metrics=self.metrics,
            pulse=self.pulse,
            boot_id=lambda: self.boot_id,
            clock=clock,
            settings=self.settings,
        )
        return self.loop

    def want(self, *layout: Placement, mode: Mode = Mode.MANAGED, withheld: tuple[Placement, ...] = ()) -> None:
        """The controller, which has seen the newest status, asks for this layout."""
        revision = self.api.nodes[NAME].status.revision
        gpus = layouts_to_spec({BUS: tuple(sorted(layout))}, {BUS: withheld})
        self.api.set_spec(NAME, MigNodeSpec(mode=mode, observed_revision=revision, gpus=gpus))

    async def round(self, after: float = 0.0) -> None:
        """One round, this many seconds after the last."""
        self.clock.jump(after)
        await self.loop.round()

    async def run_until_reported(self) -> None:
        """Start the loop as a process does and end it after the first round that changes nothing any more."""

        def stop_when_at_rest(status: MigNodeStatus) -> None:
            if not any(each.type == "Repartitioning" and each.status == "True" for each in status.conditions):
                self.loop.stop()

        self.api.on_status = stop_when_at_rest
        await asyncio.wait_for(self.loop.run(), 5.0)

    def label(self, **labels: str) -> None:
        """Replace the Node's labels."""
        self.node.info = replace(self.node.info, labels=labels)

    @property
    def status(self) -> MigNodeStatus:
        """What is reported now."""
        return self.api.nodes[NAME].status

    def condition(self, kind: str = "Ready") -> Condition:
        """A reported condition."""
        return next(each for each in self.status.conditions if each.type == kind)

    def fences(self) -> int:
        """How often the fence went up."""
        return self.node.calls.count("set_taint")

    def unseen_by_the_controller(self) -> None:
        """The controller's spec is from before anything was reported."""
        spec = self.api.nodes[NAME].spec
        self.api.set_spec(NAME, changed(spec, observed_revision=0))
