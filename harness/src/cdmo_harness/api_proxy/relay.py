"""One client's connection through the proxy, beside a connection to the API server of its own.

The two live and die together: what a client sees of a server that is down, or that closes an idle connection, is
what it would see without the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
import msgspec

from cdmo_harness.api_proxy.faults import Fault, FaultBook, Kind
from cdmo_harness.api_proxy.requests import Request, parse_request
from cdmo_harness.api_proxy.streams import Stream
from cdmo_harness.api_proxy.wire import Message, Wire, first_of

# The API server's own words for the codes it uses (metav1.StatusReason).
_REASONS = {
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Relay:
    """Requests of one connection, one after the other."""

    def __init__(
        self,
        name: str,
        client: Wire,
        server: Wire,
        book: FaultBook,
        *,
        streams: set[Stream],
        released: Callable[[], asyncio.Event],
        saw: Callable[[str, Request], None],
    ) -> None:
        """`name`: of the client. `released`: set when whoever is held must be let go. `saw`: told of each request."""
        self._name = name
        self._client = client
        self._server = server
        self._book = book
        self._streams = streams
        self._released = released
        self._saw = saw

    async def run(self) -> None:
        """Until one side closes or a fault ends it. Raises one of wire.BROKEN."""
        while (message := await self._next_request()) is not None:
            assert isinstance(message.head, h11.Request)
            asked = parse_request(message.head.method.decode(), message.head.target.decode())
            self._saw(self._name, asked)
            if not await self._exchange(asked, message):
                return

    async def _next_request(self) -> Message | None:
        """The next request; None when either side closes instead."""
        request = asyncio.create_task(self._client.head())
        if not await first_of(request, self._server.closed_by_peer()):
            return None
        head = request.result()
        return None if head is None else Message(head, await self._client.body())

    async def _exchange(self, asked: Request, message: Message) -> bool:
        """One request and its answer; whether the connection goes on."""
        late = self._draw(Kind.LATE_REQUEST, asked)
        if late is None:
            return await self._pass_on(asked, message)
        self._book.held += 1
        try:
            await self._wait(late)
            return await self._pass_on(asked, message)
        finally:
            self._book.held -= 1

    async def _pass_on(self, asked: Request, message: Message) -> bool:
        if self._draw(Kind.BLACK_HOLE, asked) is not None:
            await first_of(asyncio.create_task(self._client.closed_by_peer()), self._released().wait())
            self._client.reset()
            return False
        if (refusal := self._draw(Kind.ANSWER, asked)) is not None:
            await self._client.send(_status(refusal))
            return self._client.next_cycle()
        lost = self._draw(Kind.LOSE_ANSWER, asked) is not None
        slow = self._draw(Kind.SLOW_ANSWER, asked)
        await self._server.send(message)
        head = await self._server.head()
        if not isinstance(head, h11.Response):
            self._client.reset()
            return False
        if asked.verb == "watch" and head.status_code == 200 and not lost:
            await self._stream(asked, head)
            return False
        answer = Message(head, await self._server.body())
        if slow is not None:
            await self._wait(slow)
        if lost:
            self._client.reset() if self._book.uniform(1.0) < 0.5 else self._client.close()
            return False
        await self._client.send(answer)
        return self._client.next_cycle() and self._server.next_cycle()

    async def _stream(self, asked: Request, head: h11.Response) -> None:
        """A watch. It has the connection for itself: its end is the connection's."""
        stream = Stream(
            self._name,
            asked,
            self._client,
            counts=self._book.counts,
            bookmark_withheld=lambda: self._draw(Kind.NO_BOOKMARKS, asked) is not None,
            draw=lambda: self._book.uniform(1.0),
        )
        kept = [(name, value) for name, value in head.headers.raw_items() if name.lower() != b"connection"]
        self._client.put(h11.Response(status_code=200, headers=[*kept, (b"Connection", b"close")]))
        is_json = any(name.lower() == b"content-type" and b"json" in value for name, value in kept)
        self._streams.add(stream)
        try:
            relayed = asyncio.create_task(stream.relay(self._server, is_json=is_json))
            if await first_of(relayed, stream.wait_over(), self._client.closed_by_peer()):
                relayed.result()
        finally:
            self._streams.discard(stream)

    async def _wait(self, fault: Fault) -> None:
        if fault.delay is None:
            await self._released().wait()
        else:
            await asyncio.sleep(self._book.uniform(fault.delay))

    def _draw(self, kind: Kind, asked: Request) -> Fault | None:
        return self._book.draw(kind, self._name, asked)


def _status(refusal: Fault) -> Message:
    """An answer as the API server writes it."""
    content = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"the api proxy of the harness answers {refusal.code}",
        "reason": _REASONS.get(refusal.code, "Unknown"),
        "code": refusal.code,
    }
    body = msgspec.json.encode(content)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if refusal.retry_after is not None:
        headers.append(("Retry-After", str(refusal.retry_after)))
    return Message(h11.Response(status_code=refusal.code, headers=headers), body)
