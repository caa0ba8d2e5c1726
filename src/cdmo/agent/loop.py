"""The agent's round: observe, compare, change if need be, report. One task, woken by events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from cdmo.agent import events
from cdmo.agent.capacity import CapacityKeeper
from cdmo.agent.change import NodeChange, Outcome, Result, guard_evidence
from cdmo.agent.disagreement import Disagreement
from cdmo.agent.guard import refusals
from cdmo.agent.journal import Entry, Journal
from cdmo.agent.lost_modes import LostModes
from cdmo.agent.metrics import AgentMetrics
from cdmo.agent.observe import Observation, Observer
from cdmo.agent.report import Health, Report, repartition_of, status_of
from cdmo.agent.retry import Retry
from cdmo.agent.revisions import Revisions, key_of
from cdmo.agent.status import StatusKeeper
from cdmo.agent.steps import SeenGpu, SeenInstance, Steps, steps_for
from cdmo.agent.watch import ChangeWatch
from cdmo.api.convert import Withheld, layouts_from_spec, withheld_from_spec
from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.errors import BadSpec, CdmoError, DriverHung, KubeletError, LibraryMismatch
from cdmo.kube.port import EventSink
from cdmo.kubelet.port import PodResources
from cdmo.model.cluster import NodeInfo, PodInfo, carries_fence, labelled
from cdmo.model.gpu import DeviceState, Placement
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL
from cdmo.model.reasons import EventReason, ReadyReason
from cdmo.runtime.clock import Clock
from cdmo.runtime.pulse import Pulse

TELL_SECONDS = 0.5  # after which a change is told although it has not come to the hardware

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How often the agent looks when nothing happens. Seconds."""

    look_every: float = 5.0
    look_limit: float = 60.0  # for one look at kubelet and driver
    retry_first: float = 1.0  # after a change that was refused or failed, doubled each time
    retry_most: float = 60.0


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
        self._capacity = CapacityKeeper(pods, change)
        self._journal = journal
        self._lost_modes = lost_modes
        self._status = status
        self._events = events
        self._metrics = metrics
        self._pulse = pulse
        self._boot_id = boot_id
        self._clock = clock
        self._settings = settings
        self._disagreement = Disagreement(pods, clock, settings.look_every)
        self._retry = Retry(clock, settings.retry_first, settings.retry_most)
        self._wake = asyncio.Event()
        self.ended = asyncio.Event()  # set when `run` is over
        self._stopping = False
        self.running = False
        self._revisions: Revisions | None = None
        self._interrupted: Entry | None = None
        self._half_made: frozenset[tuple[str, Placement]] = frozenset()  # instances of an interrupted change
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
        if node is None or mignode is None:
            return
        if self._revisions is None:
            self._begin(node, mignode)
        observation, health = await self._observe()
        if health.reason is ReadyReason.DRIVER_HUNG:
            self._events.emit(events.of_node(node, EventReason.DRIVER_HUNG, health.message))
        if observation is not None:
            self._see(observation)
            steps, health = self._compare(observation, mignode, health)
            purpose = await self._purpose(node, mignode, observation, steps)
            if purpose is not None and self._retry.due(purpose):
                await self._carry_out(node, mignode, observation, health)
                return
            if purpose is None:
                self._failure = Health()
            elif health.ready and not self._failure.ready:
                health = self._failure
            await self._capacity.keep(node, observation, _withheld(node, mignode), self._pods_here())
        elif self._interrupted is None and carries_fence(node) and await self._change.fenced():
            # Nothing was under way behind it, and nobody can say when driver and kubelet answer again.
            await self._change.lower_leftover_fence()
        await self._report(mignode, observation, health)

    def _begin(self, node: NodeInfo, mignode: MigNode) -> None:
        """Take up where the last agent of this node stopped."""
        if self._interrupted is None and node.labels.get(FENCE_LABEL) == FENCE_CHANGING:
            self._interrupted = Entry("")  # its journal is lost, as with another disk
        self._status.current = mignode.status
        self._revisions = Revisions(mignode.status)
        self._changes = mignode.status.last_repartition.count if mignode.status.last_repartition else 0
        self._lost_modes.begin(mignode.status, self._boot_id())

    async def _observe(self) -> tuple[Observation | None, Health]:
        observation, health = await self._look()
        self.trouble = "" if observation is not None else health.message
        self._pulse.mark()
        return observation, health

    async def _look(self) -> tuple[Observation | None, Health]:
        limit = self._settings.look_limit
        try:
            async with asyncio.timeout(limit):
                observation = await self._observer.look()
                await self._pods.allocatable()  # a kubelet that does not answer shows also while no pod holds a slice
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

    def _see(self, observation: Observation) -> None:
        assert self._revisions is not None
        self._revisions.see(observation.driver)
        self._lost_modes.see(observation.driver)

    def _compare(self, observation: Observation, mignode: MigNode, health: Health) -> tuple[Steps, Health]:
        try:
            steps = self._decide(mignode)(observation)
        except BadSpec as error:
            self._events.emit(events.bad_spec(mignode, _sentence(error)))
            return Steps(), Health(ReadyReason.BAD_SPEC, _sentence(error))
        # What the guard would refuse inside the fence needs no fence.
        evidence = guard_evidence(observation, tuple(self._pods_here()))
        for bus, reason in refusals(steps.steps, evidence).items():
            steps = steps.without_gpu(bus, reason)
        return steps, Health(message="; ".join(steps.held_back)) if health.ready else health

    def _decide(self, mignode: MigNode) -> Callable[[Observation], Steps]:
        layouts = layouts_from_spec(mignode)
        withheld_from_spec(mignode)  # told like any other contradiction

        def decide(observation: Observation) -> Steps:
            self._see(observation)
            if observation.hold:
                return Steps(held_back=(observation.hold,))
            return steps_for(layouts, self._seen(observation), mignode.spec.observed_revision)

        return decide

    def _seen(self, observation: Observation) -> tuple[SeenGpu, ...]:
        assert self._revisions is not None
        revisions = self._revisions
        ours = self._half_made | (self._interrupted.being_made() if self._interrupted else frozenset())
        # Remembered beyond the change that finds them: it may have to leave their GPU alone.
        self._half_made = frozenset(
            (gpu.pci_bus_id, each.placement)
            for gpu in observation.driver.gpus
            for each in gpu.instances
            if observation.state_of(each) is DeviceState.BROKEN and (gpu.pci_bus_id, each.placement) in ours
        )
        return tuple(
            SeenGpu(
                pci_bus_id=gpu.pci_bus_id,
                mig_mode=gpu.mig_mode,
                model=gpu.model,
                instances=tuple(
                    SeenInstance(
                        placement=each.placement,
                        revision=revisions.of(key_of(gpu.pci_bus_id, each)),
                        broken=observation.state_of(each) is DeviceState.BROKEN,
                        ours=(gpu.pci_bus_id, each.placement) in ours,
                        unhealthy=observation.state_of(each) is DeviceState.UNHEALTHY,
                    )
                    for each in gpu.instances
                ),
                problem=gpu.trouble,
                mode_lost=self._lost_modes.lost(gpu),
            )
            for gpu in observation.driver.gpus
        )

    async def _purpose(
        self, node: NodeInfo, mignode: MigNode, observation: Observation, steps: Steps
    ) -> object | None:
        """What a change is wanted for, the most urgent first: to end an earlier one, to bring kubelet and hardware
        together, to do the steps. None when nothing is."""
        if self._interrupted is not None or (carries_fence(node) and await self._change.fenced()):
            return "recovery"
        if not labelled(node):
            return None
        difference = await self._disagreement.to_reload_for(observation)
        if difference:
            return "reload", difference
        if steps.steps and mignode.spec.mode is Mode.MANAGED:
            return mignode.metadata.generation, steps.steps
        return None

    async def _carry_out(self, node: NodeInfo, mignode: MigNode, before: Observation, health: Health) -> None:
        recovering = self._interrupted is not None or carries_fence(node) or self._disagreement.seen
        changing = labelled(node) and mignode.spec.mode is Mode.MANAGED and health.reason is not ReadyReason.BAD_SPEC
        decide = self._decide(mignode) if changing else _nothing
        started = self._clock.now()
        telling = asyncio.create_task(self._tell_of_change(mignode, before, health), name="tell of the change")
        outcome = await self._change.run(
            decide, self._boot_id(), reload_anyway=recovering, withheld=_withheld(node, mignode)
        )
        self._watch.over()
        self._metrics.change_ended(outcome)
        await asyncio.gather(telling, return_exceptions=True)  # a status that was not written is written below
        self._settle(outcome)
        observation, health = await self._observe()
        if observation is not None:
            self._see(observation)
        if health.ready and not self._failure.ready:
            health = self._failure
        for event in events.of_change(node, outcome):
            self._events.emit(event)
        await self._report(mignode, observation, health, outcome=outcome, started=started)

    async def _tell_of_change(self, mignode: MigNode, before: Observation, health: Health) -> None:
        """Once the hardware is at work: until then the change itself waits for the API server."""
        if await self._watch.until_at_work(TELL_SECONDS):
            await self._report(mignode, before, health, changing=True)

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
        *,
        changing: bool = False,
        outcome: Outcome | None = None,
        started: float = 0.0,
    ) -> None:
        assert self._revisions is not None
        report = Report(
            observation=observation,
            health=health,
            generation=mignode.metadata.generation,
            boot_id=self._boot_id(),
            changing=changing,
            repartition=repartition_of(outcome, started, self._changes) if outcome else None,
        )
        status = status_of(report, self._revisions, self._status.current, self._clock.now())
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


def _nothing(observation: Observation) -> Steps:
    return Steps()


def _withheld(node: NodeInfo, mignode: MigNode) -> Withheld:
    """What is kept from the scheduler: nothing where CDMO changes nothing, nor by a spec that contradicts itself."""
    if not labelled(node) or mignode.spec.mode is not Mode.MANAGED:
        return {}
    try:
        return withheld_from_spec(mignode)
    except BadSpec:
        return {}


def _sentence(error: CdmoError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
