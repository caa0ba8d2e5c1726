"""One change of a node, in the order that keeps every pod safe.

    fence     binds to the node are refused, proved at every API server; from then on the fence is the agent's alone;
              the scheduler has shown that it knows
    quiet     every bound pod that asks for GPU resources shows its devices in the kubelet
    guard     what is to be destroyed is held by nobody, and what stays covers the bound pods
    journal   the steps are on disk: a kill at any line from here on is finished or undone by the next agent
    apply     destroy, create, device nodes
    reload    the device plugin enumerates again, held over the gap; the kubelet lists exactly what NVML has
    publish   the Node offers the new counts, less what is withheld, and no whole GPU that is cut; meanwhile proof
              that the fence held
    unfence   down, off a Node that still shows the counts; proof that it is down

Before the journal a failure means: nothing happened, lower the fence; unless an earlier change left its journal,
for then kubelet and hardware may disagree, and the fence stays up. After it, whatever happened to the steps, the
plugin is reloaded and the counts are published, for only then do kubelet and hardware agree. When the plugin does
not come back the fence stays up (pods bound now would be lost) and the agent says so until it does.

A driver call that never returns is a failure like a kill at that line: nobody knows whether it happened. Nothing is
undone and nothing published, journal and fence stay, and when the driver answers again the change is ended as an
interrupted one. Each phase has a limit beyond which it is given up, as its place in this order demands; only what the
hardware is doing cannot be given up: there each call has its limit (runtime/worker.py), and the delay is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import structlog

from cdmo.agent import guard
from cdmo.agent.apply import Applier
from cdmo.agent.fence import Fence
from cdmo.agent.journal import Journal
from cdmo.agent.observe import Observation, Observer
from cdmo.agent.offer import Offer, offer_of
from cdmo.agent.steps import Steps
from cdmo.agent.whole_gpus import WholeGpus
from cdmo.api.convert import Withheld
from cdmo.errors import (
    CdmoError,
    ChangeStuck,
    DriverHung,
    FenceLapsed,
    GuardRefused,
    PluginAbsent,
    PluginStuck,
)
from cdmo.hardware.port import DriverReading
from cdmo.kube.port import FenceApi
from cdmo.kubelet.port import DevicePlugin
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.reasons import ReadyReason
from cdmo.runtime.clock import Clock
from cdmo.runtime.pauses import growing
from cdmo.runtime.together import together

logger = structlog.get_logger(__name__)

Decide = Callable[[Observation, NodeInfo], Steps]


class Phase(StrEnum):
    """Where a change is. The words of the design's protocol."""

    FENCE = "fence"
    QUIET = "quiet"
    GUARD = "guard"
    JOURNAL = "journal"
    APPLY = "apply"
    RELOAD = "reload"
    PUBLISH = "publish"
    UNFENCE = "unfence"


class Progress(Protocol):
    """Is told when a change enters a phase: the log, the metrics and the status hang on it."""

    def entered(self, phase: Phase) -> None: ...


class Result(StrEnum):
    """How a change ended."""

    APPLIED = "Applied"
    UNNEEDED = "Unneeded"  # inside the fence nothing was left to do
    UNDONE = "Undone"  # a step failed; what was done before it was taken back
    REFUSED = "Refused"  # the guard, or a pod that did not become quiet: nothing was touched
    FAILED = "Failed"  # the fence did not rise, or the plugin did not come back


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a change went. Seconds; a phase that was not reached took 0."""

    result: Result
    message: str = ""
    fenced_seconds: float = 0.0
    gpu_seconds: float = 0.0
    reload_seconds: float = 0.0
    fence_lapsed: bool = False
    unasked: bool = False  # nobody could tell whether the scheduler knows of the change
    still_fenced: bool = False
    reason: ReadyReason = ReadyReason.CHANGE_FAILED  # of the node's condition, where it failed


PHASE_LIMITS: Mapping[Phase, float] = {
    Phase.FENCE: 30.0,
    Phase.QUIET: 30.0,
    Phase.GUARD: 5.0,
    Phase.JOURNAL: 10.0,
    Phase.APPLY: 60.0,
    Phase.RELOAD: 60.0,
    Phase.PUBLISH: 60.0,
    Phase.UNFENCE: 60.0,
}
"""Seconds a phase may take; each waits for several things that have shorter limits of their own."""


@dataclass(frozen=True, slots=True)
class QuietLimits:
    """How long bound pods may take to show their devices. Seconds; on an idle kubelet it takes milliseconds."""

    limit: float = 5.0
    pause: float = 0.01  # between two looks, doubled up to 0.2: PodResources allows 100 calls a second


@dataclass(slots=True)
class _Run:
    """What one change has measured so far."""

    started: float
    withheld: Withheld
    # As seen inside the fence, before anything was changed: nobody is added there.
    driver: DriverReading = field(default_factory=lambda: DriverReading("", ()))
    bound: tuple[PodInfo, ...] = ()
    holders: Mapping[str, PodKey] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    reload_seconds: float = 0.0
    plugin_absent: bool = False
    failure: CdmoError | None = None
    notes: list[str] = field(default_factory=list)


class NodeChange:
    """Carries out changes of one node, one at a time."""

    def __init__(
        self,
        node: str,
        *,
        fence: Fence,
        api: FenceApi,
        observer: Observer,
        applier: Applier,
        plugin: DevicePlugin,
        whole_gpus: WholeGpus,
        journal: Journal,
        clock: Clock,
        progress: Progress,
        quiet: QuietLimits,
        limits: Mapping[Phase, float],
    ) -> None:
        self._node = node
        self._fence = fence
        self._api = api
        self._observer = observer
        self._applier = applier
        self._plugin = plugin
        self._whole_gpus = whole_gpus
        self._journal = journal
        self._clock = clock
        self._progress = progress
        self._quiet = quiet
        self._limits = limits

    async def run(self, decide: Decide, boot_id: str, *, reload_anyway: bool, withheld: Withheld) -> Outcome:
        """Run one change. `decide` is asked inside the fence, so that it sees what can no longer move.

        reload_anyway: go through to the end even without steps, because an earlier change was interrupted or
        because kubelet and hardware disagree.
        withheld: the placements that are kept from the scheduler, by PCI bus id.
        """
        run = _Run(self._clock.monotonic(), withheld)
        try:
            async with self._phase(Phase.FENCE):
                node = await self._fence.raise_()
            steps = await self._decide_fenced(decide, node, run)
            if not steps.steps and not reload_anyway:
                return await self._give_up(GuardRefused("; ".join(steps.held_back)) if steps.held_back else None, run)
            async with self._phase(Phase.JOURNAL):
                self._journal.write(steps.steps, boot_id)
                self._fence.dismiss_witness()
        except CdmoError as failure:
            return await self._give_up(failure, run)
        await self._apply(steps, run)
        return await self._finish(run)

    async def _decide_fenced(self, decide: Decide, node: NodeInfo, run: _Run) -> Steps:
        async with self._phase(Phase.QUIET):
            bound, observation = await self._await_quiet()
        run.driver, run.bound, run.holders = observation.driver, bound, observation.holders
        self._progress.entered(Phase.GUARD)
        steps = decide(observation, node)
        refused = guard.refusals(steps.steps, guard_evidence(observation, bound))
        for bus, reason in refused.items():
            steps = steps.without_gpu(bus, reason)
        return steps

    async def _await_quiet(self) -> tuple[tuple[PodInfo, ...], Observation]:
        deadline = self._clock.monotonic() + self._quiet.limit
        pauses = growing(self._quiet.pause, 2, 0.2)
        while True:
            bound = await self._api.pods_on(self._node)
            observation = await self._observer.look_fenced(bound)
            waiting = [each for each in guard.unexplained(bound, observation.holders) if each.phase != "Running"]
            if not waiting:
                return bound, observation
            if self._clock.monotonic() >= deadline:
                raise GuardRefused(
                    f"pod {waiting[0].key} is bound to the node but shows no devices after {self._quiet.limit:g} s",
                    hint=f"kubectl describe pod -n {waiting[0].key.namespace} {waiting[0].key.name}",
                )
            await self._clock.sleep(next(pauses))

    async def _apply(self, steps: Steps, run: _Run) -> None:
        self._progress.entered(Phase.APPLY)
        began = self._clock.monotonic()
        try:
            await self._applier.apply(steps.steps, run.driver, take_back=steps.take_back)
        except CdmoError as failure:
            run.failure = failure
        run.gpu_seconds = self._clock.monotonic() - began
        run.notes += steps.held_back

    async def _finish(self, run: _Run) -> Outcome:
        """From the reload on: what must happen whether or not the steps went well."""
        try:
            async with self._phase(Phase.RELOAD):
                offer = await self._reload(run)
            async with self._phase(Phase.PUBLISH):
                # The proof changes nothing: it need not wait until the counts are there.
                node, lapsed = await together(self.publish(offer), self._lapsed())
                if not run.plugin_absent:  # its pod has to get onto the node before anybody corrects a count
                    await self._whole_gpus.settled(node)
        except CdmoError as failure:
            return self._outcome(Result.FAILED, run.failure or failure, run, still_fenced=True)
        try:
            await self._lower(offer)
        except CdmoError as failure:
            return self._outcome(Result.FAILED, failure, run, still_fenced=True)
        result = Result.APPLIED if run.failure is None else Result.UNDONE
        return self._outcome(result, run.failure, run, fence_lapsed=lapsed)

    async def _reload(self, run: _Run) -> Offer:
        """Have the plugin enumerate what there is now; returns what the Node may then offer."""
        began = self._clock.monotonic()
        driver = await self._observer.driver()
        await self._applier.ensure_device_nodes(driver)
        observation = Observation(driver, run.holders)
        offer = offer_of(observation, run.withheld, run.bound)
        try:
            await self._plugin.reload(
                observation.expected_devices(), observation.doubtful_devices(), observation.cut_gpus()
            )
        except PluginAbsent as absent:
            offer = Offer()
            run.plugin_absent = True
            run.notes.append(str(absent))
        run.reload_seconds = self._clock.monotonic() - began
        return offer

    async def fenced(self) -> bool:
        """Whether the fence is up by a quorum read: a mirror may still show one that was lowered."""
        return await self._fence.is_up()

    async def publish(self, offer: Offer) -> NodeInfo:
        """Write the offer of every MIG resource into the Node, 0 for those that vanished. Raises ClusterError."""
        return await self._api.set_mig_capacity(self._node, offer.capacity, offer.allocatable)

    async def _lower(self, offer: Offer) -> None:
        """Unfence and forget the journal."""
        async with self._phase(Phase.UNFENCE):
            if not await self._fence.lower(offer.shown_by):
                await self.publish(offer)  # a report that the kubelet had begun before came in after ours
                await self._fence.lower()
        self._journal.clear()

    async def _lapsed(self) -> bool:
        """Whether the fence did not hold all the time."""
        try:
            await self._fence.verify()
        except FenceLapsed:
            return True
        except CdmoError as failure:
            # Not knowing whether it held is no reason to keep it up: everything behind it is done.
            logger.warning("the fence could not be verified", error=str(failure))
        return False

    @asynccontextmanager
    async def _phase(self, phase: Phase) -> AsyncIterator[None]:
        """A phase that only waits for others, and can be given up. Raises ChangeStuck beyond its limit."""
        self._progress.entered(phase)
        limit = self._limits[phase]
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError as error:
            raise ChangeStuck(
                f"the change was given up in phase {phase}, which took more than {limit:g} s",
                hint="the agent's log says what it waited for: the API server, the kubelet or the device plugin",
            ) from error

    async def lower_leftover_fence(self) -> None:
        """Lower a fence that stands although no change is under way. Raises ClusterError."""
        await self._fence.lower()

    async def _give_up(self, failure: CdmoError | None, run: _Run) -> Outcome:
        """Nothing was touched by this change: lower the fence and say why; not so when an earlier one has to end."""
        try:
            if self._journal.read() is not None or await self._fence.inherited():
                return self._outcome(Result.FAILED, failure, run, still_fenced=True)
            await self._fence.lower()
        except CdmoError as second:
            logger.error("the fence could not be lowered", error=str(second))
            return self._outcome(Result.FAILED, failure or second, run, still_fenced=True)
        if failure is None:
            return self._outcome(Result.UNNEEDED, None, run)
        return self._outcome(Result.REFUSED if isinstance(failure, GuardRefused) else Result.FAILED, failure, run)

    def _outcome(
        self,
        result: Result,
        failure: CdmoError | None,
        run: _Run,
        *,
        fence_lapsed: bool = False,
        still_fenced: bool = False,
    ) -> Outcome:
        notes = [str(failure)] if failure else []
        if isinstance(failure, PluginStuck | DriverHung) and failure.hint:
            notes.append(failure.hint)
        return Outcome(
            result=result,
            message="; ".join((*notes, *run.notes))[:1024],
            fenced_seconds=self._clock.monotonic() - run.started,
            gpu_seconds=run.gpu_seconds,
            reload_seconds=run.reload_seconds,
            fence_lapsed=fence_lapsed,
            unasked=self._fence.unasked,
            still_fenced=still_fenced,
            reason=_reason(failure, still_fenced),
        )


def _reason(failure: CdmoError | None, still_fenced: bool) -> ReadyReason:
    """What the node's condition says of a failure."""
    match failure:
        case DriverHung():
            return ReadyReason.DRIVER_HUNG
        case ChangeStuck():
            return ReadyReason.CHANGE_STUCK
    return ReadyReason.PLUGIN_STUCK if still_fenced else ReadyReason.CHANGE_FAILED


def guard_evidence(observation: Observation, bound: tuple[PodInfo, ...]) -> guard.Evidence:
    """What the guard judges by, from one observation and the pods bound to the node."""
    slices = {}
    for gpu in observation.driver.gpus:
        for each in gpu.instances:
            profile = gpu.model.profile(each.placement.profile_id)
            where = (gpu.pci_bus_id, (each.placement.profile_id, each.placement.start))
            slices[where] = guard.Witness(profile.resource if profile else "", each.device_uuid, each.processes)
    return guard.Evidence(
        slices=slices,
        gpus={each.pci_bus_id: guard.GpuWitness(each.uuid, each.processes) for each in observation.driver.gpus},
        holders=observation.holders,
        bound=bound,
        hidden=guard.hidden_resources(bound, observation.holders),
    )
