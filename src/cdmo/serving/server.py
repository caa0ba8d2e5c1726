"""A small HTTP/1.1 server on the event loop of the process it tells about: when the loop is blocked it does not
answer, and that is the point.

The HTTP is h11's; here are the bounds. One request a connection, at most 16 KiB of it, all within a few seconds; a
fixed number of connections, of which the oldest is given up for a new one, so that whoever holds them open cannot
keep the kubelet's probes out.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import h11
import structlog

from cdmo.errors import BadSettings
from cdmo.serving.pages import Answer, Pages, Request

_READ_BYTES = 16384

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Times in seconds."""

    connections: int = 32
    connection_s: float = 10.0  # from the accept to the last byte of the answer, TLS handshake included
    request_bytes: int = 16384  # of the request line and the headers
    accept_pause_s: float = 0.1  # after an accept that failed: there may be no file descriptor left


class Server:
    """Serves `pages` on a socket that `listen` made. `run` it in a task."""

    def __init__(
        self,
        listener: socket.socket,
        pages: Pages,
        context: Callable[[], ssl.SSLContext] | None,
        limits: ServerLimits,
    ) -> None:
        """context: asked for each connection; None: plain HTTP."""
        self._listener = listener
        self._pages = pages
        self._context = context
        self._limits = limits
        self._connections: dict[asyncio.Task[None], None] = {}  # oldest first

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    async def run(self) -> NoReturn:
        """Serve until cancelled."""
        logger.info("serving", host=self.address[0], port=self.address[1], tls=self._context is not None)
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                except OSError as error:
                    logger.warning("a connection could not be accepted", error=str(error))
                    await asyncio.sleep(self._limits.accept_pause_s)
                    continue
                self._start(connection)
        finally:
            self._listener.close()
            tasks = tuple(self._connections)
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, connection: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections:
            oldest = next(iter(self._connections))
            oldest.cancel()
            del self._connections[oldest]
        task = asyncio.create_task(self._serve(connection), name="connection")
        self._connections[task] = None
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _serve(self, connection: socket.socket) -> None:
        """One connection. What goes wrong with it concerns its other end alone."""
        try:
            async with asyncio.timeout(self._limits.connection_s):
                await self._exchange(connection)
        except (OSError, ssl.SSLError, TimeoutError, h11.RemoteProtocolError) as error:
            logger.debug("a connection ended early", error=str(error)[:200])
        except Exception as error:  # no request may ever end the process
            logger.error("a request could not be answered", error=f"{type(error).__name__}: {error}"[:300])
        finally:
            connection.close()

    async def _exchange(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=_READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self._context() if self._context else None
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.request_bytes)
            answer, body = await self._answer(http, reader)
            writer.write(_encoded(http, answer, body))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        finally:
            transport.abort()  # nothing is left when all went well; else nobody waits for the other end

    async def _answer(self, http: h11.Connection, reader: asyncio.StreamReader) -> tuple[Answer, bool]:
        """What to send, and whether with its body."""
        try:
            request = await _request(http, reader)
        except h11.RemoteProtocolError as error:
            if http.our_state is not h11.IDLE and http.our_state is not h11.SEND_RESPONSE:
                raise
            return Answer(error.error_status_hint, b"not a request that is understood here\n"), True
        if request is None:
            raise ConnectionResetError("nothing was asked")
        return await self._pages.answer(request), request.method != "HEAD"


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
    """The request without its body, which is never read: no path here takes one."""
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(_READ_BYTES))
    if not isinstance(event, h11.Request):
        return None
    authorization = next((value for name, value in event.headers if name == b"authorization"), b"")
    path = event.target.partition(b"?")[0]
    return Request(event.method.decode("ascii"), path.decode("latin-1"), authorization.decode("latin-1"))


def _encoded(http: h11.Connection, answer: Answer, body: bool) -> bytes:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *answer.headers,
    ]
    sent = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    if body:
        sent += http.send(h11.Data(data=answer.body)) or b""
    return sent + (http.send(h11.EndOfMessage()) or b"")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that does not block. Raises BadSettings when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # [::] means everywhere
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise BadSettings(
            f"{host} port {port} cannot be listened on: {error.strerror or error}",
            hint="choose another address or port with --listen",
        ) from error
    return listener
