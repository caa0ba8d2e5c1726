"""The proxy itself: a listener for each client, a relay for each connection, and the control socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import Counter
from contextlib import suppress

import msgspec
import structlog

from cdmo_harness.api_proxy.control import (
    Add,
    Answer,
    Clear,
    Command,
    Drop,
    Listen,
    Order,
    Remove,
    Seen,
    Settings,
)
from cdmo_harness.api_proxy.faults import FaultBook, Kind
from cdmo_harness.api_proxy.relay import Relay
from cdmo_harness.api_proxy.requests import Request
from cdmo_harness.api_proxy.streams import Stream, StreamOrder
from cdmo_harness.api_proxy.wire import BROKEN, Wire, first_of

_log = structlog.get_logger(__name__)

_LOOPBACK = "127.0.0.1"
_BACKLOG = 256
_BUFFER = 1024 * 1024  # bytes read ahead on a connection
_RST = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close() sends a reset
_PORT_RETRY = 0.1  # seconds; a port that was given up is taken again, whoever may have had it meanwhile


class Proxy:
    """Everything of one proxy, in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Reads the certificates; nothing listens yet."""
        self._settings = settings
        self._book = FaultBook(settings.seed, asyncio.get_running_loop().time)
        self._serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._serving.load_cert_chain(settings.certificate, settings.private_key)
        self._serving.set_alpn_protocols(["http/1.1"])
        self._asking = ssl.create_default_context(cafile=settings.authority)
        self._asking.set_alpn_protocols(["http/1.1"])
        self._ports: dict[str, int] = {}
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._connections: dict[asyncio.Task[None], tuple[str, list[Wire]]] = {}
        self._streams: set[Stream] = set()
        self._seen: Counter[tuple[str, Request]] = Counter()
        self._released = asyncio.Event()

    async def run(self) -> None:
        """Obey the control socket until cancelled."""
        control = await asyncio.start_unix_server(self._control, self._settings.control, limit=_BUFFER)
        async with control:
            await control.serve_forever()

    # --- control --------------------------------------------------------------------------------------------

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                try:
                    answer = await self._obey(msgspec.json.decode(line, type=Command))
                except (msgspec.MsgspecError, OSError) as error:
                    answer = Answer(error=str(error))
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        writer.close()

    async def _obey(self, command: Command) -> Answer:
        number = 0
        if isinstance(command, Listen):
            self._ports[command.client] = command.port
        elif isinstance(command, Add):
            number = self._book.add(command.fault)
            if command.fault.seconds is not None:
                asyncio.get_running_loop().call_later(command.fault.seconds + 0.001, self._set_listeners)
        elif isinstance(command, Remove):
            self._book.remove(command.number)
        elif isinstance(command, Order):
            number = self._order(command.order)
        elif isinstance(command, Drop):
            number = self._drop(command)
        elif isinstance(command, Clear):
            self._clear()
        self._set_listeners()
        await asyncio.sleep(0)  # a listener's task has begun, or ended, when the caller hears of it
        return self._answer(number)

    def _answer(self, number: int) -> Answer:
        return Answer(
            number=number,
            held=self._book.held,
            counts=dict(self._book.counts),
            streams=[(each.client, each.asked.resource) for each in self._streams],
            seen=[Seen(name, asked.verb, asked.resource, count) for (name, asked), count in self._seen.items()],
        )

    def _order(self, order: StreamOrder) -> int:
        hit = [each for each in self._streams if order.scope.holds(each.client, each.asked)]
        if order.share < 1.0:
            hit = [each for each in hit if self._book.uniform(1.0) < order.share]
        for each in hit:
            each.obey(order)
        return len(hit)

    def _drop(self, command: Drop) -> int:
        hit = [wires for name, wires in self._connections.values() if command.scope.holds_client(name) and wires]
        for wires in hit:
            wires[0].reset()
        self._book.counts["reset connection"] += len(hit)
        return len(hit)

    def _clear(self) -> None:
        self._book.clear()
        self._released.set()
        self._released = asyncio.Event()
        for each in self._streams:
            each.heal()

    # --- connections ----------------------------------------------------------------------------------------

    def _set_listeners(self) -> None:
        """Listen for every client that is not to be refused."""
        for name, port in self._ports.items():
            task = self._listeners.get(name)
            refused = self._book.stands(Kind.REFUSE, name)
            if refused and task is not None:
                self._listeners.pop(name).cancel()
                self._book.counts[Kind.REFUSE.value] += 1
            elif not refused and task is None:
                self._listeners[name] = asyncio.create_task(self._listen(name, port))

    async def _listen(self, name: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while True:
                try:
                    listener.bind((_LOOPBACK, port))
                    break
                except OSError as error:
                    _log.warning("a port cannot be taken yet", client=name, port=port, error=str(error))
                    await asyncio.sleep(_PORT_RETRY)
            listener.listen(_BACKLOG)
            while True:
                accepted, _ = await loop.sock_accept(listener)
                wires: list[Wire] = []
                task = asyncio.create_task(self._serve(name, accepted, wires))
                self._connections[task] = (name, wires)
                task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _serve(self, name: str, accepted: socket.socket, wires: list[Wire]) -> None:
        """One connection from its beginning to its end; whatever happens to it stays with it."""
        try:
            if self._book.draw(Kind.SWALLOW, name) is not None:
                await self._swallow(accepted)
                return
            try:
                server = await self._connect()
            except OSError:  # the server is away: so is the proxy
                _reset(accepted)
                return
            wires.append(server)
            client = await self._accept(accepted)
            wires.insert(0, client)
            relay = Relay(
                name,
                client,
                server,
                self._book,
                streams=self._streams,
                released=lambda: self._released,
                saw=self._note,
            )
            await relay.run()
        except BROKEN as error:
            if len(wires) == 2:
                wires[0].reset()
            _log.debug("a connection broke", client=name, error=str(error))
        finally:
            for wire in wires:
                wire.close()

    def _note(self, name: str, asked: Request) -> None:
        self._seen[(name, asked)] += 1

    async def _connect(self) -> Wire:
        reader, writer = await asyncio.open_connection(
            self._settings.host, self._settings.port, ssl=self._asking, limit=_BUFFER
        )
        return Wire(reader, writer, serves=False)

    async def _accept(self, accepted: socket.socket) -> Wire:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_BUFFER)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=self._serving)
        return Wire(reader, asyncio.StreamWriter(transport, protocol, reader, loop), serves=True)

    async def _swallow(self, accepted: socket.socket) -> None:
        """Read and say nothing until the client gives up, or until it is let go."""
        loop = asyncio.get_running_loop()

        async def read_all() -> None:
            while await loop.sock_recv(accepted, 4096):
                pass

        try:
            await first_of(asyncio.create_task(read_all()), self._released.wait())
        finally:
            _reset(accepted)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    connection.close()
