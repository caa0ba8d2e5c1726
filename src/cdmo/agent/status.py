"""The MigNode's status as this agent last wrote it, and its heartbeat.

Rounds write what they see. A round can take long (a slow kubelet, a change under way, a driver that hangs), and an
agent whose heartbeat is old counts as dead: so a task of its own beats in between. It stops when the rounds are stuck
beyond everything that they may wait for: an agent that does nothing any more must not look alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import structlog
from msgspec.structs import replace

from cdmo.agent import events
from cdmo.agent.report import same_but_for_time, timestamp
from cdmo.agent.watch import ChangeWatch, Overdue
from cdmo.api.v1alpha1 import MigNodeStatus
from cdmo.errors import ClusterError
from cdmo.kube.port import EventSink, MigNodeApi
from cdmo.model.cluster import NodeInfo
from cdmo.model.reasons import ConditionType, EventReason
from cdmo.runtime.clock import Clock
from cdmo.runtime.pulse import Pulse

logger = structlog.get_logger(__name__)


class StatusKeeper:
    """The only writer of the status. `every`: seconds between two beats when nothing else is to be written."""

    def __init__(self, node: str, api: MigNodeApi, clock: Clock, every: float) -> None:
        self._node = node
        self._api = api
        self._clock = clock
        self._every = every
        self._writing = asyncio.Lock()  # an older status must never come after a newer one
        self._written_at = float("-inf")
        self.current = MigNodeStatus()

    @property
    def age(self) -> float:
        """Seconds since the last heartbeat that the API server took; infinity before the first."""
        return self._clock.monotonic() - self._written_at

    async def report(self, status: MigNodeStatus) -> None:
        """Write a status if it says something new, or a beat is due. Raises ClusterError."""
        async with self._writing:
            if self.age >= self._every or not same_but_for_time(status, self.current):
                await self._write(status)

    async def beat(self, overdue: Overdue | None) -> None:
        """Write the same with a fresh heartbeat, if one is due, and what became overdue. Raises ClusterError."""
        async with self._writing:
            current = self.current
            if current.agent is None:
                return  # nothing was seen yet: there is nothing to say
            status = with_overdue(current, overdue)
            if self.age >= self._every or status is not current:
                agent = replace(current.agent, heartbeat=timestamp(self._clock.now()))
                await self._write(replace(status, agent=agent))

    async def _write(self, status: MigNodeStatus) -> None:
        await self._api.write_status(self._node, status)
        self.current = status
        self._written_at = self._clock.monotonic()


class Heart:
    """Beats between the rounds' own reports."""

    def __init__(
        self,
        keeper: StatusKeeper,
        pulse: Pulse,
        watch: ChangeWatch,
        *,
        sink: EventSink,
        node: Callable[[], NodeInfo | None],
        clock: Clock,
        pause: float,
    ) -> None:
        """pause: seconds between two looks; shorter than a heartbeat's period."""
        self._keeper = keeper
        self._pulse = pulse
        self._watch = watch
        self._sink = sink
        self._node = node
        self._clock = clock
        self._pause = pause
        self._told = ""
        self._stuck = False

    async def run(self) -> NoReturn:
        """Beat until cancelled."""
        while True:
            await self._clock.sleep(self._pause)
            await self.look()

    async def look(self) -> None:
        """Beat if it is due and the rounds get on."""
        overdue = self._watch.overdue()
        if overdue is not None:
            self._tell(overdue)
        stuck, before = bool(self._pulse.stuck()), self._stuck
        self._stuck = stuck
        if stuck:
            if not before:
                logger.error("the rounds are stuck: no heartbeat any more", stuck=self._pulse.stuck())
            return
        try:
            await self._keeper.beat(overdue)
        except ClusterError as error:
            logger.info("the heartbeat could not be written", error=str(error), hint=error.hint)

    def _tell(self, overdue: Overdue) -> None:
        """Once for each phase of each change that is stuck."""
        about = f"{overdue.phase} {overdue.since}"
        node = self._node()
        if about != self._told and node is not None:
            self._told = about
            message = sentence(overdue)
            logger.error("a change is stuck", phase=overdue.phase, seconds=round(overdue.seconds, 1))
            self._sink.emit(events.of_node(node, EventReason.CHANGE_STUCK, message))


def sentence(overdue: Overdue) -> str:
    """What is told of a phase that lasts for too long; the same for as long as it lasts."""
    return (
        f"a change of this node has been in phase {overdue.phase} since {timestamp(overdue.since)}, "
        f"which should take at most {overdue.limit:g} s"
    )


def with_overdue(status: MigNodeStatus, overdue: Overdue | None) -> MigNodeStatus:
    """The status with the overdue phase in its condition Repartitioning; the very same when that says it already."""
    if overdue is None:
        return status
    message = sentence(overdue)
    conditions = tuple(
        replace(each, reason=EventReason.CHANGE_STUCK.value, message=message)
        if each.type == ConditionType.REPARTITIONING and each.status == "True"
        else each
        for each in status.conditions
    )
    return status if conditions == status.conditions else replace(status, conditions=conditions)
