"""The agent's round: observe, compare, change if need be, report. One task, woken by events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog

from cdmo.agent import events
from cdmo.agent.capacity import CapacityKeeper
from cdmo.agent.change import NodeChange, Outcome, Result, guard_evidence
from cdmo.agent.guard import refusals
from cdmo.agent.journal import Entry, Journal
from cdmo.agent.observe import Observation, Observer
from cdmo.agent.report import Health, Report, repartition_of, same_but_for_time, status_of
from cdmo.agent.revisions import Revisions, key_of
from cdmo.agent.steps import SeenGpu, SeenInstance, Steps, steps_for
from cdmo.api.convert import Withheld, layouts_from_spec, withheld_from_spec
from cdmo.api.v1alpha1 import MigNode, MigNodeStatus, Mode
from cdmo.errors import BadSpec, CdmoError, KubeletError, LibraryMismatch
from cdmo.kube.port import EventSink, MigNodeApi
from cdmo.kubelet.port import PodResources
from cdmo.model.cluster import NodeInfo, PodInfo, carries_fence, labelled
from cdmo.model.gpu import DeviceState, MigMode
from cdmo.model.names import is_mig_resource
from cdmo.model.reasons import ReadyReason
from cdmo.runtime.clock import Clock

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How often the agent looks when nothing happens. Seconds."""

    look_every: float = 5.0
    heartbeat_every: float = 10.0
    retry_first: float = 1.0  # after a change that was refused or failed, doubled each time
    retry_most: float = 60.0


class AgentLoop:
    """Keeps one node as its MigNode says."""

    def __init__(
        self,
        node: str,
        *,
        mirror: Callable[[], tuple[NodeInfo | None, MigNode | None]],
        pods_here: Callable[[], Iterable[PodInfo]],
        observer: Observer,
        pods: PodResources,
        change: NodeChange,
        journal: Journal,
        mignodes: MigNodeApi,
        events: EventSink,
        boot_id: Callable[[], str],
        clock: Clock,
        settings: LoopSettings,
    ) -> None:
        self._node = node
        self._mirror = mirror
        self._pods_here = pods_here
        self._observer = observer
        self._pods = pods
        self._change = change
        self._capacity = CapacityKeeper(pods, change)
        self._journal = journal
        self._mignodes = mignodes
        self._events = events
        self._boot_id = boot_id
        self._clock = clock
        self._settings = settings
        self._wake = asyncio.Event()
        self.ended = asyncio.Event()  # set when `run` is over
        self._stopping = False
        self._running = False
        self._status = MigNodeStatus()
        self._written_at = float("-inf")
        self._revisions: Revisions | None = None
        self._modes_before_boot: Mapping[str, str] = {}
        self._interrupted: Entry | None = None
        self._changes = 0
        self._not_before = 0.0
        self._retry = settings.retry_first
        self._tried_for: object = None
        self._failure = Health()  # why the change that is still wanted did not come about; ready when none is
        self._disagreement: tuple[frozenset[str], float] = (frozenset(), 0.0)
        self._reloaded_for: frozenset[str] = frozenset()

    def wake(self) -> None:
        """Something changed: look now. Safe to call from the event loop at any time, as often as one likes."""
        self._wake.set()

    def stop(self) -> None:
        """End after the round that is running; a change under way is carried to its end."""
        self._stopping = True
        self._wake.set()
        if not self._running:
            self.ended.set()

    async def run(self) -> None:
        """Rounds until stopped. A failure is reported and tried again in the next; only LibraryMismatch ends it."""
        self._running = True
        self._interrupted = self._journal.read()
        try:
            await self._rounds()
        finally:
            self.ended.set()

    async def _rounds(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                await self.round()
            except LibraryMismatch:
                raise
            except CdmoError as error:
                logger.warning("the round could not be finished", error=str(error), hint=error.hint)
            await self._rest()

    async def round(self) -> None:
        """One round."""
        node, mignode = self._mirror()
        if node is None or mignode is None:
            return
        if self._revisions is None:
            self._begin(mignode)
        observation, health = await self._observe()
        if observation is not None:
            self._see(observation)
            steps, health = self._compare(observation, mignode, health)
            purpose = await self._purpose(node, mignode, observation, steps)
            if purpose is not None and self._due(purpose):
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

    def _begin(self, mignode: MigNode) -> None:
        """Take up where the last agent of this node stopped."""
        self._status = mignode.status
        self._revisions = Revisions(mignode.status)
        self._changes = mignode.status.last_repartition.count if mignode.status.last_repartition else 0
        agent = mignode.status.agent
        if agent is not None and agent.boot_id and agent.boot_id != self._boot_id():
            self._modes_before_boot = {each.pci_bus_id: each.mig_mode for each in mignode.status.gpus}

    async def _observe(self) -> tuple[Observation | None, Health]:
        try:
            observation = await self._observer.look()
            await self._pods.allocatable()  # a kubelet that does not answer shows also while no pod holds a slice
        except KubeletError as error:
            return None, Health(ReadyReason.KUBELET_UNAVAILABLE, _sentence(error))
        except LibraryMismatch:
            raise  # a mapped library cannot be swapped: only a new process can go on
        except CdmoError as error:
            return None, Health(ReadyReason.DRIVER_UNAVAILABLE, _sentence(error))
        if not any(each.model.profiles for each in observation.driver.gpus):
            return observation, Health(ReadyReason.NO_MIG_GPU, "no GPU of this node can be cut into MIG slices")
        return observation, Health()

    def _see(self, observation: Observation) -> None:
        assert self._revisions is not None
        self._revisions.see(observation.driver)
        # Once it is on again a mode is no longer lost: whoever then switches it off means it.
        on = {each.pci_bus_id for each in observation.driver.gpus if each.mig_mode is MigMode.ENABLED}
        self._modes_before_boot = {bus: mode for bus, mode in self._modes_before_boot.items() if bus not in on}

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
            return steps_for(layouts, self._seen(observation), mignode.spec.observed_revision)

        return decide

    def _seen(self, observation: Observation) -> tuple[SeenGpu, ...]:
        assert self._revisions is not None
        revisions = self._revisions
        being_made = self._interrupted.being_made() if self._interrupted else frozenset()
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
                        ours=(gpu.pci_bus_id, each.placement) in being_made,
                    )
                    for each in gpu.instances
                ),
                problem=gpu.problem,
                mode_lost=gpu.hopper_or_later
                and self._modes_before_boot.get(gpu.pci_bus_id) == MigMode.ENABLED
                and gpu.mig_mode is MigMode.DISABLED,
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
        difference = await self._not_enumerated(observation)
        if difference:
            return "reload", difference
        if steps.steps and mignode.spec.mode is Mode.MANAGED:
            return mignode.metadata.generation, steps.steps
        return None

    async def _not_enumerated(self, observation: Observation) -> frozenset[str]:
        """Devices made or destroyed beside us (nvidia-smi), for which the plugin must look again.

        One reload per difference, and only when it lasts: a plugin that is just starting lists nothing either.
        """
        nothing: frozenset[str] = frozenset()
        try:
            listed = await self._pods.allocatable()
        except KubeletError:
            return nothing
        known = frozenset(each for name, ids in listed.items() if is_mig_resource(name) for each in ids)
        expected = frozenset(each for ids in observation.expected_devices().values() for each in ids)
        difference = known ^ expected
        before, since = self._disagreement
        if not difference or (not known and self._reloaded_for == difference):
            self._disagreement = (nothing, 0.0)
            if not difference:
                self._reloaded_for = nothing  # the same uuid may come and go by hand once more
            return nothing
        if difference != before:
            self._disagreement = (difference, self._clock.monotonic())
            return nothing
        if difference == self._reloaded_for or self._clock.monotonic() - since < self._settings.look_every:
            return nothing
        return difference

    def _due(self, purpose: object) -> bool:
        """Whether this may be tried now; a purpose that is new may be tried at once."""
        if purpose != self._tried_for:
            self._tried_for = purpose
            self._retry = self._settings.retry_first
            return True
        return self._clock.monotonic() >= self._not_before

    async def _carry_out(self, node: NodeInfo, mignode: MigNode, before: Observation, health: Health) -> None:
        recovering = self._interrupted is not None or carries_fence(node) or bool(self._disagreement[0])
        changing = labelled(node) and mignode.spec.mode is Mode.MANAGED and health.reason is not ReadyReason.BAD_SPEC
        decide = self._decide(mignode) if changing else _nothing
        started = self._clock.now()
        telling = asyncio.create_task(self._report(mignode, before, health, changing=True), name="tell of the change")
        outcome = await self._change.run(
            decide, self._boot_id(), reload_anyway=recovering, withheld=_withheld(node, mignode)
        )
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
            self._reloaded_for = self._disagreement[0]
        if outcome.result in (Result.APPLIED, Result.UNNEEDED):
            self._failure = Health()
            self._changes += outcome.result is Result.APPLIED
            self._interrupted = None
            self._tried_for = None
            self._disagreement = (frozenset(), 0.0)
            return
        reason = ReadyReason.PLUGIN_STUCK if outcome.still_fenced else ReadyReason.CHANGE_FAILED
        self._failure = Health(reason, outcome.message)
        if not outcome.still_fenced and outcome.result is Result.UNDONE:
            self._interrupted = None
        elif outcome.still_fenced:
            self._interrupted = self._journal.read() or Entry(self._boot_id())
        self._not_before = self._clock.monotonic() + self._retry
        self._retry = min(self._retry * 2, self._settings.retry_most)

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
        status = status_of(report, self._revisions, self._status, self._clock.now())
        due = self._clock.monotonic() - self._written_at >= self._settings.heartbeat_every
        if due or not same_but_for_time(status, self._status):
            await self._mignodes.write_status(self._node, status)
            self._status = status
            self._written_at = self._clock.monotonic()

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
