"""One HTTP/1.1 connection, either end of it, on asyncio streams. h11 does the protocol."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import h11

# A list's page of 500 large pods has some megabytes; nothing of a local cluster comes near this. Bytes.
BODY_LIMIT = 256 * 1024 * 1024
_HEAD_LIMIT = 1024 * 1024
_READ = 64 * 1024

Event = h11.Request | h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage | h11.ConnectionClosed

BROKEN = (OSError, EOFError, h11.ProtocolError)  # how the other side's end, or nonsense from it, shows


@dataclass(frozen=True, slots=True)
class Message:
    """A request or the beginning of an answer, with its body."""

    head: h11.Request | h11.Response
    body: bytes


class Wire:
    """A connection on which requests come in or go out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, serves: bool) -> None:
        """`serves`: requests come in; otherwise they go out."""
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(
            our_role=h11.SERVER if serves else h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT
        )

    async def event(self) -> Event:
        """The next thing the other side says. Raises one of BROKEN."""
        while True:
            event = self._state.next_event()
            if event is h11.PAUSED:
                raise EOFError("the other side speaks out of turn")
            if not isinstance(event, type):
                return event  # type: ignore[return-value]
            self._state.receive_data(await self._reader.read(_READ))

    async def head(self) -> h11.Request | h11.Response | None:
        """The next request, or the head of the answer; None when the other side has closed."""
        while True:
            event = await self.event()
            if isinstance(event, h11.ConnectionClosed):
                return None
            if isinstance(event, h11.Request | h11.Response):
                return event

    async def body(self) -> bytes:
        """The whole body of what `head` returned."""
        found = bytearray()
        while isinstance(event := await self.event(), h11.Data):
            found += event.data
            if len(found) > BODY_LIMIT:
                raise EOFError(f"a body of more than {BODY_LIMIT} bytes")
        if not isinstance(event, h11.EndOfMessage):
            raise EOFError("the body was cut off")
        return bytes(found)

    def put(self, event: h11.Request | h11.Response | h11.Data | h11.EndOfMessage) -> None:
        """Send without waiting: what is written stays in order."""
        data = self._state.send(event)
        if data:
            self._writer.write(data)

    async def send(self, message: Message) -> None:
        """Send a whole message."""
        self.put(message.head)
        if message.body:
            self.put(h11.Data(data=message.body))
        self.put(h11.EndOfMessage())
        await self._writer.drain()

    async def drain(self) -> None:
        """Wait while the other side is slower than we are."""
        await self._writer.drain()

    async def closed_by_peer(self) -> None:
        """Return when the other side closes, or says something although it is not its turn."""
        try:
            while not self._reader.at_eof() and not await self._reader.read(1):
                pass
        except OSError:
            return

    def next_cycle(self) -> bool:
        """Get ready for one more message on this connection; False when it cannot take one."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    def close(self) -> None:
        """End in peace (FIN), or without a word in the middle of a message."""
        self._writer.close()

    def reset(self) -> None:
        """End with an RST, as a crashed machine's kernel or a firewall sends it."""
        connection = self._writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def first_of(main: asyncio.Task[Any], *others: Awaitable[Any]) -> bool:
    """Wait for the first of them and cancel the rest; whether `main` has ended."""
    tasks = [main, *(asyncio.ensure_future(each) for each in others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return main.done()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
