"""The agent's round: observe, compare, change if need be, report. One task, woken by events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from cdmo.agent import events
from cdmo.agent.capacity import CapacityKeeper
from cdmo.agent.change import Decide, NodeChange, Outcome, Result, guard_evidence
from cdmo.agent.disagreement import Disagreement
from cdmo.agent.guard import refusals
from cdmo.agent.journal import Entry, Journal
from cdmo.agent.lost_modes import LostModes
from cdmo.agent.marker import Marker
from cdmo.agent.metrics import AgentMetrics
from cdmo.agent.modes import ModeReport
from cdmo.agent.observe import Observation, Observer
from cdmo.agent.report import Health, Report, given_back, repartition_of, status_of
from cdmo.agent.retry import Retry
from cdmo.agent.sight import Sight
from cdmo.agent.status import StatusKeeper
from cdmo.agent.steps import Steps
from cdmo.agent.wanted import Wanted, wanted_of, without_spec
from cdmo.agent.watch import ChangeWatch
from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.errors import BadSpec, CdmoError, DriverHung, KubeletError, LibraryMismatch
from cdmo.kube.port import EventSink
from cdmo.kubelet.port import PodResources
from cdmo.model.cluster import NodeInfo, PodInfo, carries_fence, labelled
from cdmo.model.modes import ModePolicy
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL
from cdmo.model.reasons import EventReason, ReadyReason
from cdmo.runtime.clock import Clock
from cdmo.runtime.pulse import Pulse
from cdmo.runtime.together import together

TELL_SECONDS = 0.5  # after which a change is told although it has not come to the hardware

_UNHINDERED = (ReadyReason.READY, ReadyReason.DISABLED)  # why a change failed says more than these

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How often the agent looks when nothing happens, in seconds, and what it may do unasked."""

    look_every: float = 5.0
    look_limit: float = 60.0  # for one look at kubelet and driver
    retry_first: float = 1.0  # after a change that was refused or failed, doubled each time
    retry_most: float = 60.0
    modes: ModePolicy = ModePolicy.MANUAL  # where the Node's annotation says nothing


class AgentLoop:
    """Keeps one node as its MigNode says."""

    def __init__(
        self,
        *,
        mirror: Callable[[], tuple[NodeInfo | None, MigNode | None]],
        pods_here: Callable[[], Iterable[PodInfo]],
        observer: Observer,
        pods: PodResources,
        change: NodeChange,
        watch: ChangeWatch,
        journal: Journal,
        lost_modes: LostModes,
        marker: Marker,
        status: StatusKeeper,
        events: EventSink,
        metrics: AgentMetrics,
        pulse: Pulse,
        boot_id: Callable[[], str],
        clock: Clock,
        settings: LoopSettings,
    ) -> None:
        self._mirror = mirror
        self._pods_here = pods_here
        self._observer = observer
        self._pods = pods
        self._change = change
        self._watch = watch
        self._capacity = CapacityKeeper(change)
        self._journal = journal
        self._lost_modes = lost_modes
        self._marker = marker
        self._status = status
        self._events = events
        self._metrics = metrics
        self._pulse = pulse
        self._boot_id = boot_id
        self._clock = clock
        self._settings = settings
        self._disagreement = Disagreement(clock, settings.look_every)
        self._retry = Retry(clock, settings.retry_first, settings.retry_most)
        self._wake = asyncio.Event()
        self.ended = asyncio.Event()  # set when `run` is over
        self._stopping = False
        self.running = False
        self._sight: Sight | None = None
        self._listed: Mapping[str, frozenset[str]] = {}  # by resource: the kubelet's devices at the last look
        self._interrupted: Entry | None = None
        self._changes = 0
        self._failure = Health()  # why the change that is still wanted did not come about; ready when none is
        self.trouble = "nothing was looked at yet"  # why the node cannot be worked with; empty: it can

    def wake(self) -> None:
        """Something changed: look now. Safe to call from the event loop at any time, as often as one likes."""
        self._wake.set()

    def driver_answered(self) -> None:
        """A driver call that had hung came back: what was put off may be tried at once."""
        self._retry.at_once()
        self.wake()

    def stop(self) -> None:
        """End after the round that is running; a change under way is carried to its end."""
        self._stopping = True
        self._wake.set()
        if not self.running:
            self.ended.set()

    async def run(self) -> None:
        """Rounds until stopped. A failure is reported and tried again in the next; only LibraryMismatch ends it."""
        self.running = True
        self._interrupted = self._journal.read()
        try:
            await self._rounds()
        finally:
            self.ended.set()

    async def _rounds(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._pulse.mark("a round")
            try:
                await self.round()
            except LibraryMismatch:
                raise
            except CdmoError as error:
                self._metrics.round_ended(finished=False)
                logger.warning("the round could not be finished", error=str(error), hint=error.hint)
            else:
                self._metrics.round_ended(finished=True)
            self._pulse.mark("waiting for the next round")
            await self._rest()

    async def round(self) -> None:
        """One round."""
        node, mignode = self._mirror()
        if node is not None and mignode is not None:
            await self._round(node, mignode)
        elif node is not None:
            await self._mark(node)

    async def _round(self, node: NodeInfo, mignode: MigNode) -> None:
        if self._sight is None:
            self._begin(node, mignode)
        observation, health = await self._observe()
        if health.reason is ReadyReason.DRIVER_HUNG:
            self._events.emit(events.of_node(node, EventReason.DRIVER_HUNG, health.message))
        modes = ModeReport()
        if observation is not None:
            self._sight_of(observation)
            wanted, health = self._want(node, mignode, health)
            steps, health = self._compare(observation, mignode, wanted, health)
            modes = self._modes(observation, wanted, steps.held_back)
            purpose = await self._purpose(node, mignode, observation, steps)
            if purpose is not None and self._retry.due(purpose):
                await self._carry_out(node, mignode, observation, wanted, health)
                return
            if purpose is None:
                self._failure = Health()
            elif health.reason in _UNHINDERED and not self._failure.ready:
                health = self._failure
            withheld = wanted.withheld(observation)
            await self._capacity.keep(node, observation, self._listed, withheld, self._pods_here())
        elif self._interrupted is None and carries_fence(node) and await self._change.fenced():
            # Nothing was under way behind it, and nobody can say when driver and kubelet answer again.
            await self._change.lower_leftover_fence()
        await self._report(mignode, observation, health, modes)
        await self._mark(node)

    async def _mark(self, node: NodeInfo) -> None:
        await self._marker.keep(node, owes=self._interrupted is not None or self._capacity.lowered)

    def _begin(self, node: NodeInfo, mignode: MigNode) -> None:
        """Take up where the last agent of this node stopped."""
        if self._interrupted is None and node.labels.get(FENCE_LABEL) == FENCE_CHANGING:
            self._interrupted = Entry("")  # its journal is lost, as with another disk
        self._status.current = mignode.status
        self._sight = Sight(mignode.status, self._boot_id(), self._lost_modes)
        self._changes = mignode.status.last_repartition.count if mignode.status.last_repartition else 0

    async def _observe(self) -> tuple[Observation | None, Health]:
        observation, health = await self._look()
        self.trouble = "" if observation is not None else health.message
        self._pulse.mark()
        return observation, health

    async def _look(self) -> tuple[Observation | None, Health]:
        limit = self._settings.look_limit
        try:
            async with asyncio.timeout(limit):
                # The kubelet is asked in any case: one that does not answer shows also while no pod holds a slice.
                observation, self._listed = await together(self._observer.look(), self._pods.allocatable())
        except TimeoutError:
            message = f"the kubelet is so slow that one look at all pods took more than {limit:g} s"
            return None, Health(ReadyReason.KUBELET_UNAVAILABLE, message)
        except DriverHung as error:
            return None, Health(ReadyReason.DRIVER_HUNG, _sentence(error))
        except KubeletError as error:
            return None, Health(ReadyReason.KUBELET_UNAVAILABLE, _sentence(error))
        except LibraryMismatch:
            raise  # a mapped library cannot be swapped: only a new process can go on
        except CdmoError as error:
            return None, Health(ReadyReason.DRIVER_UNAVAILABLE, _sentence(error))
        if observation.hold:
            return observation, Health(ReadyReason.GPU_SILENT, observation.hold)
        if not any(each.model.profiles for each in observation.driver.gpus):
            return observation, Health(ReadyReason.NO_MIG_GPU, "no GPU of this node can be cut into MIG slices")
        return observation, Health()

    def _want(self, node: NodeInfo, mignode: MigNode, health: Health) -> tuple[Wanted, Health]:
        try:
            return wanted_of(node, mignode, self._settings.modes), health
        except BadSpec as error:
            return without_spec(node, mignode, self._settings.modes), self._bad_spec(mignode, error)

    def _bad_spec(self, mignode: MigNode, error: BadSpec) -> Health:
        self._events.emit(events.bad_spec(mignode, _sentence(error)))
        return Health(ReadyReason.BAD_SPEC, _sentence(error))

    def _compare(
        self, observation: Observation, mignode: MigNode, wanted: Wanted, health: Health
    ) -> tuple[Steps, Health]:
        steps = Steps()
        if health.reason is not ReadyReason.BAD_SPEC:
            try:
                steps = self._steps(observation, wanted)
            except BadSpec as error:
                health = self._bad_spec(mignode, error)
        # What the guard would refuse inside the fence needs no fence.
        evidence = guard_evidence(observation, tuple(self._pods_here()))
        for bus, reason in refusals(steps.steps, evidence).items():
            steps = steps.without_gpu(bus, reason)
        if health.ready and wanted.mode is Mode.DISABLED:
            health = Health(ReadyReason.DISABLED, given_back(observation, steps.held_back))
        return steps, replace(health, message="; ".join(steps.held_back)) if health.ready else health

    def _steps(self, observation: Observation, wanted: Wanted) -> Steps:
        if observation.hold:
            return Steps(held_back=(observation.hold,))
        assert self._sight is not None
        return wanted.steps(self._sight.gpus(observation, wanted, self._interrupted))

    def _decide(self, mignode: MigNode) -> Decide:
        """What is asked inside the fence, with the Node as the API server has it: the mirror may show a label that is
        gone."""

        def decide(observation: Observation, node: NodeInfo) -> Steps:
            self._sight_of(observation)
            wanted = wanted_of(node, mignode, self._settings.modes)
            return self._steps(observation, wanted) if wanted.managed else Steps()

        return decide

    def _sight_of(self, observation: Observation) -> Sight:
        assert self._sight is not None
        self._sight.see(observation)
        return self._sight

    def _modes(self, observation: Observation | None, wanted: Wanted, held_back: Iterable[str]) -> ModeReport:
        if observation is None or self._sight is None:
            return ModeReport()
        return wanted.modes(self._sight.gpus(observation, wanted, self._interrupted), held_back)

    async def _purpose(
        self, node: NodeInfo, mignode: MigNode, observation: Observation, steps: Steps
    ) -> object | None:
        """What a change is wanted for, the most urgent first: to end an earlier one, to bring kubelet and hardware
        together, to do the steps. None when nothing is."""
        if self._interrupted is not None or (carries_fence(node) and await self._change.fenced()):
            return "recovery"
        if not labelled(node):
            return None
        difference = self._disagreement.to_reload_for(observation, self._listed)
        if difference:
            return "reload", difference
        return (mignode.metadata.generation, steps.steps) if steps.steps else None

    async def _carry_out(
        self, node: NodeInfo, mignode: MigNode, before: Observation, wanted: Wanted, health: Health
    ) -> None:
        recovering = self._interrupted is not None or carries_fence(node) or self._disagreement.seen
        changing = wanted.managed and health.reason is not ReadyReason.BAD_SPEC
        started = self._clock.now()
        telling = asyncio.create_task(
            self._tell_of_change(mignode, before, wanted, health), name="tell of the change"
        )
        outcome = await self._change.run(
            self._decide(mignode) if changing else _nothing,
            self._boot_id(),
            reload_anyway=recovering,
            withheld=wanted.withheld(before),
        )
        self._watch.over()
        self._metrics.change_ended(outcome)
        await asyncio.gather(telling, return_exceptions=True)  # a status that was not written is written below
        self._settle(outcome)
        observation, health = await self._observe()
        if observation is not None:
            self._sight_of(observation)
            if health.ready and wanted.mode is Mode.DISABLED:
                health = Health(ReadyReason.DISABLED, given_back(observation, ()))
        if health.reason in _UNHINDERED and not self._failure.ready:
            health = self._failure
        for event in events.of_change(node, outcome):
            self._events.emit(event)
        modes = self._modes(observation, wanted, (self._failure.message,))
        await self._report(mignode, observation, health, modes, outcome=outcome, started=started)

    async def _tell_of_change(self, mignode: MigNode, before: Observation, wanted: Wanted, health: Health) -> None:
        """Once the hardware is at work: until then the change itself waits for the API server."""
        if await self._watch.until_at_work(TELL_SECONDS):
            await self._report(mignode, before, health, self._modes(before, wanted, ()), changing=True)

    def _settle(self, outcome: Outcome) -> None:
        logger.info(
            "change ended",
            result=outcome.result,
            fenced=round(outcome.fenced_seconds, 3),
            gpu=round(outcome.gpu_seconds, 3),
            reload=round(outcome.reload_seconds, 3),
            message=outcome.message,
        )
        if outcome.result in (Result.APPLIED, Result.UNDONE):
            self._disagreement.reloaded()
        if outcome.result in (Result.APPLIED, Result.UNNEEDED):
            self._failure = Health()
            self._changes += outcome.result is Result.APPLIED
            self._interrupted = None
            self._retry.succeeded()
            self._disagreement.ended()
            return
        self._failure = Health(outcome.reason, outcome.message)
        if not outcome.still_fenced and outcome.result is Result.UNDONE:
            self._interrupted = None
        elif outcome.still_fenced:
            self._interrupted = self._journal.read() or Entry(self._boot_id())
        self._retry.failed()

    async def _report(
        self,
        mignode: MigNode,
        observation: Observation | None,
        health: Health,
        modes: ModeReport,
        *,
        changing: bool = False,
        outcome: Outcome | None = None,
        started: float = 0.0,
    ) -> None:
        assert self._sight is not None
        report = Report(
            observation=observation,
            health=health,
            modes=modes,
            generation=mignode.metadata.generation,
            boot_id=self._boot_id(),
            changing=changing,
            repartition=repartition_of(outcome, started, self._changes) if outcome else None,
        )
        status = status_of(report, self._sight.revisions, self._status.current, self._clock.now())
        before = self._status.current
        await self._status.report(status)
        self._pulse.mark()
        node, _ = self._mirror()
        for event in events.of_health(node, before, self._status.current) if node is not None else ():
            self._events.emit(event)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._settings.look_every):
                await self._wake.wait()
        except TimeoutError:
            return


def _nothing(observation: Observation, node: NodeInfo) -> Steps:
    return Steps()


def _sentence(error: CdmoError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
