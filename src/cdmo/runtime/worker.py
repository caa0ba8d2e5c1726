"""One thread for calls that block: driver calls run here, one after the other, never on the event loop.

A call into a driver can hang for good (a GPU that fell off the bus, a kernel module that waits for itself), and
nothing can end it from outside. So every call has a limit, counted from its start. A call that goes beyond it is
given up: its caller, and everybody who waits behind it, gets DriverHung, and so does every new call until the hung
one returns, without being queued and without another thread. Nothing ever runs beside a hung call: nobody knows what
it is about to do. When it returns at last, whatever it says is dropped, and calls are taken again.

Code that does several things in one call asks `check_wanted` before each that changes something: after a call was
given up, it must not go on from where it hung.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import structlog

from cdmo.errors import DriverHung
from cdmo.runtime.clock import Clock

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

HINT = (
    "does `nvidia-smi` on the node hang too? Then reload the driver or reboot the node; CDMO goes on by itself as "
    "soon as the driver answers"
)

logger = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    act: Callable[[], Any]
    limit: float
    answer: asyncio.Future[Any]
    began: float = 0.0  # by the clock: monotonic
    began_at: float = 0.0  # Unix time
    given_up: bool = False  # set on the event loop, read by the thread
    timer: asyncio.TimerHandle | None = None


class Worker:
    """A named thread. Used from one event loop.

    limit: seconds that a call may take unless it is given its own.
    returned: told after every call that came back, and whether that one had been given up.
    """

    def __init__(self, name: str, clock: Clock, limit: float, returned: Callable[[bool], None]) -> None:
        self._name = name
        self._clock = clock
        self._limit = limit
        self._returned = returned
        self._waiting: deque[_Call] = deque()
        self._running: _Call | None = None
        self._thread: threading.Thread | None = None
        self._given: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._closed = False
        self.hung_calls = 0  # how many were given up so far

    async def run(
        self, call: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """Run the call in the thread, after those before it, and return or raise what it does. Raises DriverHung."""
        return await self._do(self._limit, lambda: call(*arguments, **named))

    async def run_within(
        self,
        limit: float,
        call: Callable[Parameters, Result],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """The same for a call that may take `limit` seconds."""
        return await self._do(limit, lambda: call(*arguments, **named))

    @property
    def hanging_for(self) -> float:
        """Seconds since the start of the call that hangs now, 0 while none does."""
        hung = self._hung()
        return self._clock.monotonic() - hung.began if hung else 0.0

    @property
    def waiting(self) -> int:
        """How many calls wait for the one before."""
        return len(self._waiting)

    def check_wanted(self) -> None:
        """For the thread, before it changes something. Raises DriverHung when its call was given up meanwhile."""
        call = self._running
        if call is not None and call.given_up and threading.current_thread() is self._thread:
            raise DriverHung("the driver answered only after the call was given up: nothing more is done", hint=HINT)

    def close(self) -> None:
        """Let the thread end after the call it is in; calls that wait are dropped. A hung call holds up nobody: the
        thread is a daemon, so that the process can end."""
        self._closed = True
        for each in self._waiting:
            each.answer.cancel()
        self._waiting.clear()
        self._given.put(None)

    # --- on the event loop ----------------------------------------------------------------------------------

    async def _do(self, limit: float, act: Callable[[], Result]) -> Result:
        if self._closed:
            raise RuntimeError(f"the worker {self._name} is closed")
        if hung := self._hung():
            raise self._failure(hung, "still hangs; no other is made until it returns")
        call = _Call(act, limit, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._start_next()
        result: Result = await call.answer
        return result

    def _hung(self) -> _Call | None:
        return self._running if self._running is not None and self._running.given_up else None

    def _start_next(self) -> None:
        while self._running is None and self._waiting and not self._closed:
            call = self._waiting.popleft()
            if call.answer.done():  # whoever wanted it has gone
                continue
            loop = call.answer.get_loop()
            call.began, call.began_at = self._clock.monotonic(), self._clock.now()
            call.timer = loop.call_later(call.limit, self._give_up, call)
            self._running = call
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, args=(loop,), name=self._name, daemon=True)
                self._thread.start()
            self._given.put(call)

    def _give_up(self, call: _Call) -> None:
        call.given_up = True
        self.hung_calls += 1
        logger.error("a driver call hangs and is given up", limit=call.limit, waiting=len(self._waiting))
        for each in (call, *self._waiting):
            if not each.answer.done():
                each.answer.set_exception(self._failure(call, f"has not returned for {call.limit:g} s"))
        self._waiting.clear()

    def _done(self, call: _Call, result: Any, failure: BaseException | None) -> None:
        if call.timer is not None:
            call.timer.cancel()
        self._running = None
        if call.given_up:
            seconds = round(self._clock.monotonic() - call.began, 1)
            logger.warning("a driver call that had been given up has returned", seconds=seconds, error=str(failure))
        elif not call.answer.done():
            if failure is None:
                call.answer.set_result(result)
            else:
                call.answer.set_exception(failure)
        self._returned(call.given_up)
        self._start_next()

    @staticmethod
    def _failure(call: _Call, what: str) -> DriverHung:
        since = datetime.fromtimestamp(call.began_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return DriverHung(f"the driver hangs: a call made at {since} {what}", hint=HINT)

    # --- in the thread --------------------------------------------------------------------------------------

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (call := self._given.get()) is not None:
            result, failure = None, None
            try:
                result = call.act()
            except BaseException as error:  # handed to whoever asked
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(self._done, call, result, failure)
            del call, result, failure
