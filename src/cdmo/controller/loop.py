"""The controller's round: wait, snapshot, plan, publish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from cdmo.controller import events
from cdmo.controller.checked import checked
from cdmo.controller.fences import StaleFences
from cdmo.controller.metrics import ControllerMetrics
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
from cdmo.runtime.clock import Clock
from cdmo.runtime.pulse import Pulse

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """Seconds."""

    longest_wait: float = 5.0  # a round without any event: promises and pauses run out
    patience: float = 30.0  # as told in Events
    longest_round: float = 60.0  # then what is still unwritten is planned anew


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
        metrics: ControllerMetrics,
        pulse: Pulse,
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
        self._metrics = metrics
        self._pulse = pulse
        self._clock = clock
        self._settings = settings
        self._told: dict[PodKey, tuple[str, str]] = {}

    async def run(self) -> None:
        """Rounds for ever; a failure of the API server is logged and the next round tries again."""
        while True:
            self._pulse.mark("waiting for the next round")
            await self._trigger.wait(self._longest_wait())
            self._pulse.mark("a round")
            leads = self._is_leader()
            finished = await self._bounded_round()
            if leads:
                self._metrics.round_ended(finished=finished)

    async def _bounded_round(self) -> bool:
        limit = self._settings.longest_round
        try:
            async with asyncio.timeout(limit):
                await self.round()
        except ClusterError as error:
            logger.warning("the round could not be finished", error=str(error), hint=error.hint)
            return False
        except TimeoutError:
            logger.warning("the round took too long and was given up", limit=limit)
            return False
        return True

    async def round(self) -> None:
        """One round; without acting while another controller leads, nothing while the mirrors are not complete."""
        if not self._mirrors.synced():
            return
        if not self._is_leader():
            # What changed has to be taken up all the same: else a standby would remember every pod that ever was, and
            # would have all of it to catch up with when it is to lead.
            self._state.catch_up()
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
        made = checked(self._planner.plan, snapshot, self._policy)
        self._metrics.planned(self._clock.monotonic() - now, len(made.broken))
        answer = made.plan
        if answer is None:
            return
        self._metrics.waiting(answer.waiting)
        if not self._is_leader():
            return
        # Nothing is promised on a node that could not be written. What came between wakes the next round by itself,
        # and a node that refuses for good must neither make rounds spin nor hold up the others.
        unwritten = await self._publisher.publish(
            answer, self._state.mignode, self._state.withholding(), self._state.unconfirmed()
        )
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
