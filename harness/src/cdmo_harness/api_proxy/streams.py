"""A watch on its way through the proxy, event by event, and what can be done to it meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum

import h11
import msgspec

from cdmo_harness.api_proxy.faults import EVERYTHING, Scope
from cdmo_harness.api_proxy.requests import Request
from cdmo_harness.api_proxy.wire import Wire

_REMEMBERED = 100  # events of a stream that can be sent again

_EXPIRED_EVENT = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"too old resource version","reason":"Expired","code":410}}\n'
)


class Act(StrEnum):
    """What can be done to an open stream."""

    CUT = "cut stream"  # it ends as a server ends it: in peace, after a whole event
    RESET = "reset stream"  # RST
    HALF_EVENT = "half an event"  # the next event is cut in its middle, then the stream ends in one way or another
    EXPIRE = "error event 410"  # an ERROR event inside the stream, then its end
    STALL = "stalled stream"  # no bytes, connection open
    REPLAY = "replayed events"  # the last events once more, in their order


class StreamOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do to all open streams in a scope, or to a share of them."""

    act: Act
    scope: Scope = EVERYTHING
    share: float = 1.0
    seconds: float | None = None  # how long to stall; None: until `clear`
    events: int = 1  # how many to replay


class Stream:
    """One watch. Its methods act at once; they and the relay run in one event loop."""

    def __init__(
        self,
        client: str,
        asked: Request,
        wire: Wire,
        *,
        counts: Counter[str],
        bookmark_withheld: Callable[[], bool],
        draw: Callable[[], float],
    ) -> None:
        """`bookmark_withheld` is asked for each bookmark; `draw` gives a number from 0 to 1."""
        self.client = client
        self.asked = asked
        self._wire = wire
        self._counts = counts
        self._bookmark_withheld = bookmark_withheld
        self._draw = draw
        self._recent: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._stalls = 0
        self._over = asyncio.Event()
        self._half = False

    async def wait_over(self) -> None:
        """Return when an order has ended the stream."""
        await self._over.wait()

    async def relay(self, server: Wire, *, is_json: bool) -> None:
        """Pass on what the server says until one of them ends it. Raises one of wire.BROKEN."""
        rest = bytearray()
        while not self._over.is_set():
            event = await server.event()
            if not isinstance(event, h11.Data):
                break
            # Only JSON has one event a line; other encodings pass through as they come.
            pieces = [bytes(event.data)]
            if is_json:
                rest += event.data
                *whole, left = bytes(rest).split(b"\n")
                rest = bytearray(left)
                pieces = [line + b"\n" for line in whole]
            for piece in pieces:
                await self._pass_on(piece)
        await self._flowing.wait()
        if not self._over.is_set():
            self._end_in_peace() if isinstance(event, h11.EndOfMessage) else self._wire.close()

    async def _pass_on(self, piece: bytes) -> None:
        await self._flowing.wait()
        if self._over.is_set():
            return
        if piece.startswith(b'{"type":"BOOKMARK"') and self._bookmark_withheld():
            return
        if self._half:
            self._end_within(piece)
            return
        self._recent.append(piece)
        self._wire.put(h11.Data(data=piece))
        await self._wire.drain()

    # --- orders ---------------------------------------------------------------------------------------------

    def obey(self, order: StreamOrder) -> None:
        """Do to this stream what is ordered."""
        if self._over.is_set():
            return
        if order.act is Act.HALF_EVENT:
            self._half = True  # counted when it happens
            return
        self._counts[order.act.value] += 1
        if order.act is Act.CUT:
            self._end_in_peace()
        elif order.act is Act.RESET:
            self._wire.reset()
            self._over.set()
        elif order.act is Act.EXPIRE:
            self._wire.put(h11.Data(data=_EXPIRED_EVENT))
            self._end_in_peace()
        elif order.act is Act.STALL:
            self._stall(order.seconds)
        else:
            for piece in list(self._recent)[-order.events :]:
                self._wire.put(h11.Data(data=piece))

    def heal(self) -> None:
        """Undo what was ordered and has not happened yet; a stalled stream goes on with what it missed."""
        self._half = False
        self._stalls = 0
        self._flowing.set()

    def _stall(self, seconds: float | None) -> None:
        self._flowing.clear()
        self._stalls += 1
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self._end_stall)

    def _end_stall(self) -> None:
        # Of several stalls the last to end lets it flow.
        self._stalls -= 1
        if self._stalls <= 0:
            self.heal()

    def _end_in_peace(self) -> None:
        self._wire.put(h11.EndOfMessage())
        self._over.set()

    def _end_within(self, piece: bytes) -> None:
        self._counts[Act.HALF_EVENT.value] += 1
        self._wire.put(h11.Data(data=piece[: len(piece) // 2]))
        way = self._draw()
        if way < 1 / 3:
            self._end_in_peace()  # a proxy that believes the end was one
        elif way < 2 / 3:
            self._wire.close()
        else:
            self._wire.reset()
        self._over.set()
