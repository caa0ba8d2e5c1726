"""The controller's round: wait, snapshot, plan, publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from cdmo.controller import events
from cdmo.controller.fences import StaleFences
from cdmo.controller.promises import Promises
from cdmo.controller.publish import Publisher
from cdmo.controller.state import ClusterState, Mirrors
from cdmo.controller.trigger import Trigger
from cdmo.errors import ClusterError
from cdmo.kube.port import EventSink
from cdmo.model.cluster import labelled
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.planner import Planner
from cdmo.planner.check import violations
from cdmo.runtime.clock import Clock

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """Seconds."""

    longest_wait: float = 5.0  # a round without any event: promises and pauses run out
    patience: float = 30.0  # as told in Events


class ControllerLoop:
    """Plans while it leads."""

    def __init__(
        self,
        mirrors: Mirrors,
        *,
        trigger: Trigger,
        state: ClusterState,
        planner: Planner,
        promises: Promises,
        publisher: Publisher,
        fences: StaleFences,
        sink: EventSink,
        policy: Policy,
        is_leader: Callable[[], bool],
        clock: Clock,
        settings: RoundSettings,
    ) -> None:
        self._mirrors = mirrors
        self._trigger = trigger
        self._promises = promises
        self._state = state
        self._planner = planner
        self._publisher = publisher
        self._fences = fences
        self._sink = sink
        self._policy = policy
        self._is_leader = is_leader
        self._clock = clock
        self._settings = settings
        self._told: dict[PodKey, tuple[str, str]] = {}

    async def run(self) -> None:
        """Rounds for ever; a failure of the API server is logged and the next round tries again."""
        while True:
            await self._trigger.wait(self._longest_wait())
            try:
                await self.round()
            except ClusterError as error:
                logger.warning("the round could not be finished", error=str(error), hint=error.hint)

    async def round(self) -> None:
        """One round; nothing while another controller leads or the mirrors are not complete."""
        if not self._is_leader() or not self._mirrors.synced():
            return
        nodes = [each for each in self._mirrors.nodes.items().values() if labelled(each)]
        await self._publisher.ensure_mignodes(nodes, self._mirrors.mignodes.items())
        await self._fences.lift()

        # Nothing is awaited from here until the plan is made: the mirrors stand still.
        self._state.catch_up()
        now = self._clock.monotonic()  # patience is measured on a clock that nobody sets
        for each in self._promises.review(self._state.pending(), now):
            self._sink.emit(events.in_vain(each, self._settings.patience))
        snapshot = self._state.snapshot(self._promises, self._clock.now())
        answer = self._planner.plan(snapshot, self._policy)
        broken = violations(snapshot, answer, everywhere=False)
        if broken:
            logger.error("the plan breaks a rule and is not published", violations=broken)
            return
        if not self._is_leader():
            return
        # Nothing is promised on a node that could not be written. What came between wakes the next round by itself,
        # and a node that refuses for good must neither make rounds spin nor hold up the others.
        unwritten = await self._publisher.publish(answer, self._state.mignode, self._state.withholding())
        before = frozenset(self._promises.assignments())
        stand = [each for each in answer.placements if each.node not in unwritten or each in before]
        fresh = self._promises.keep(stand, now)
        for each in fresh:
            self._sink.emit(events.planned(each))
            logger.info("planned", pod=str(each.pod), node=each.node, slices=[str(one) for one in each.slices])
        self._tell_waiting(answer)

    def _longest_wait(self) -> float:
        """Seconds until a round is due without any event. Only a leader's promises run out."""
        if not self._is_leader() or not self._mirrors.synced():
            return self._settings.longest_wait
        return min(self._settings.longest_wait, self._promises.next_due(self._clock.monotonic()))

    def _tell_waiting(self, answer: Plan) -> None:
        """An Event when a pod's reason changes, not at every round."""
        told = {}
        for entry in answer.waiting:
            said = (str(entry.code), entry.reason)
            told[entry.pod] = said
            if self._told.get(entry.pod) != said:
                self._sink.emit(events.waiting(entry))
                logger.info("a pod waits", pod=str(entry.pod), code=entry.code, reason=entry.reason)
        self._told = told
