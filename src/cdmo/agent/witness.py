"""Proof that the scheduler knows of a fence before anything is changed behind it.

A scheduler whose view of the Node is older than the change goes on binding pods to what the Node offered before it.
While the fence stands these bindings are refused; once it has fallen such a pod is bound and the kubelet fails it. As
taint, label and counts are on one object, a scheduler that has heard of this change's label has heard of its taint,
binds nothing here until it hears of the taint's end, and hears of the new counts no later than that. What it had
decided before is told by then, on the pods that are bound or nominated.

Usually it hears in milliseconds. After an API server was away it can take many seconds: a client that was refused
waits longer and longer before it asks again, for each kind of object by itself, while pods are bound all the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto

import structlog

from cdmo.errors import ClusterError, NotFound
from cdmo.kube.port import WitnessApi
from cdmo.runtime.clock import Clock
from cdmo.runtime.pauses import growing

_JUDGED_WITHIN = 0.008  # seconds that a scheduler at rest takes at least, its write included
_FIRST_PAUSE = 0.005  # seconds between two looks
_LONGEST_PAUSE = 0.25
_GROWTH = 1.5

logger = structlog.get_logger(__name__)


class Heard(Enum):
    """What is known of the scheduler."""

    YES = auto()
    NO = auto()  # not within the limit
    UNASKED = auto()  # it could not be asked


class Witness:
    """Of the changes of one node, one at a time."""

    def __init__(self, api: WitnessApi, node: str, clock: Clock, new_change: Callable[[], str], limit: float) -> None:
        """`new_change`: a word that no earlier change had. `limit`: seconds that the scheduler is waited for."""
        self._api = api
        self._node = node
        self._clock = clock
        self._new_change = new_change
        self._limit = limit
        self._change = ""
        self._called = self._refused = False
        self._left = True  # whether there may be one: an earlier process may have left it
        self._dismissal: asyncio.Task[None] | None = None

    async def begin(self) -> str:
        """A change begins; the word that the Node is to carry for it."""
        dismissal, self._dismissal = self._dismissal, None
        if dismissal is not None:  # of the change before: it would delete the witness of this one
            dismissal.cancel()
            await asyncio.gather(dismissal, return_exceptions=True)
        self._change, self._called, self._refused, self._left = self._new_change(), False, False, True
        return self._change

    async def call(self) -> None:
        """Have the scheduler asked. Where that is refused, as by somebody's webhook, nothing can be proved."""
        try:
            await self._api.call(self._node, self._change)
            self._called = True
        except ClusterError as error:
            self._refused = not error.retryable
            logger.warning("the scheduler was not asked what it knows", error=str(error), hint=error.hint)

    async def heard(self) -> Heard:
        """Wait until the scheduler has heard of the change."""
        deadline = self._clock.monotonic() + self._limit
        pauses = growing(_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE)
        while True:
            if not self._called and not self._refused:
                await self.call()
                await self._clock.sleep(_JUDGED_WITHIN)
            if self._called and await self._has_heard():
                return Heard.YES
            if self._refused:
                return Heard.UNASKED
            if self._clock.monotonic() >= deadline:
                return Heard.NO
            await self._clock.sleep(next(pauses))

    async def _has_heard(self) -> bool:
        try:
            return await self._api.has_heard(self._node, self._change)
        except NotFound:  # somebody deleted it, maybe a deletion of before that came late: asked again
            self._called = False
            return False
        except ClusterError as error:
            self._refused = not error.retryable
            logger.warning("what the scheduler knows was not to be read", error=str(error), hint=error.hint)
            return False

    def begin_dismissal(self) -> None:
        """Take the question back, in the background."""
        self._dismissal = asyncio.create_task(self._take_back(), name="dismissal of the witness")

    async def dismiss(self) -> None:
        """Take the question back, if that is not done; one that is left behind harms nobody, and the next change
        replaces it."""
        dismissal, self._dismissal = self._dismissal, None
        if dismissal is not None:
            await asyncio.gather(dismissal, return_exceptions=True)  # it may have been cancelled: that is not for us
        await self._take_back()  # where that one failed, or was never begun

    async def _take_back(self) -> None:
        if not self._left:
            return
        try:
            await self._api.dismiss(self._node)
            self._left = False
        except ClusterError as error:
            logger.info("the witness of a change could not be deleted", error=str(error))
