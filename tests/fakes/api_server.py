"""A scripted API server on loopback: HTTP/1.1 over plain streams, so that it can break in every way a real one can.

    async with FakeApiServer() as server:
        server.store.apply("api/v1/namespaces/ml/pods/a", pod_json("a"))
        server.script("watch", faults.reset_within_an_event)

Without a script it answers as the real one does: paged lists, watches from a version, creates, patches, 404, 409
and 410. A fault handles the next request of its verb instead.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.api_store import Address, Json, Refused, Store, line


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def verb(self) -> str:
        """list | watch | get | post | put | patch"""
        if self.method != "GET":
            return self.method.lower()
        if self.query.get("watch") == "true":
            return "watch"
        return "get" if not self.path.startswith("/api") or Address.parse(self.path).name else "list"

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Exchange:
    """One request and the ways to answer it, properly or not."""

    def __init__(self, server: FakeApiServer, request: Request, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.request = request
        self.closed = False  # whether the connection is over after this
        self._writer = writer
        self._streaming = False
        self._version = int(request.query.get("resourceVersion") or 0)

    async def reply(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """A whole answer."""
        head = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        self._head(code, head)
        self._writer.write(body)
        await self._writer.drain()

    async def refuse(self, refused: Refused, headers: dict[str, str] | None = None) -> None:
        """An answer that is not a success, with a Status."""
        await self.reply(refused.code, json.dumps(refused.body).encode(), headers)

    async def send(self, data: bytes) -> None:
        """Part of a streamed answer."""
        if not self._streaming:
            self._streaming = True
            self._head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        if data:
            self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def end(self) -> None:
        """The proper end of a streamed answer."""
        await self.send(b"")
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def reset(self) -> None:
        """Cut the connection, whatever was sent."""
        self.closed = True
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing any more; ends with the server."""
        await asyncio.Event().wait()

    async def next_event(self) -> bytes:
        """The next change of the watched collection, as it would be sent."""
        address = Address.parse(self.request.path)
        while True:
            for change in self.server.store.changes_after(self._version, address):
                self._version = change.version
                return line(change.type, change.object)
            await self.server.change()

    async def serve_watch(self) -> None:
        """Send changes for ever."""
        await self.send(b"")
        while True:
            await self.send(await self.next_event())

    def _head(self, code: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {code} -", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())


Fault = Callable[[Exchange], Awaitable[None]]


class FakeApiServer:
    """See the module."""

    def __init__(self) -> None:
        self.store = Store()
        self.store.on_change.append(self._changed)
        self.requests: list[Request] = []
        self._scripts: dict[str, deque[Fault]] = defaultdict(deque)
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: dict[asyncio.StreamWriter, Exchange | None] = {}
        self._owners: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._waiters: set[asyncio.Future[None]] = set()
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._port}"

    async def up(self) -> None:
        """Listen, on the same port as before."""
        # By hand: asyncio's own server (Python 3.11) forgets a connection that comes in while it is closed, and
        # its client then waits for ever.
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def down(self) -> None:
        """Refuse connections and cut those there are."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # An aborted socket is closed one turn of the loop later.
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    def script(self, verb: str, *faults: Fault) -> None:
        """Let the next requests of this verb (list, more, watch, get, post, put, patch) be answered by these;
        `more` is a list's second and further page."""
        self._scripts[verb].extend(faults)

    def forget_scripts(self) -> None:
        """Be a good server from now on."""
        self._scripts.clear()

    def cut_watches(self) -> None:
        """Reset every open watch."""
        for exchange in list(self._writers.values()):
            if exchange is not None and exchange.request.verb == "watch":
                exchange.reset()

    def asked(self, verb: str) -> list[Request]:
        """Requests of one verb so far."""
        return [one for one in self.requests if one.verb == verb]

    async def change(self) -> None:
        """Return after the next change of the store."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return  # the client was gone before we looked
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else head and body are 40 ms apart
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        # Even a task that is cancelled before its first step must close its connection.
        task.add_done_callback(lambda done: self._close(done, connection))

    def _close(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        self._tasks.discard(task)
        if task not in self._owners:
            connection.close()
            return
        writer = self._owners.pop(task)
        self._writers.pop(writer, None)
        writer.close()

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        task = asyncio.current_task()
        assert task is not None
        self._owners[task] = writer
        self._writers[writer] = None
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                exchange = self._writers[writer] = Exchange(self, request, writer)
                await self._answer(exchange)
                if exchange.closed:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        verb = "more" if request.verb == "list" and "continue" in request.query else request.verb
        if self._scripts[verb]:
            await self._scripts[verb].popleft()(exchange)
        else:
            await self.serve(exchange)

    async def serve(self, exchange: Exchange) -> None:
        """Answer as the real one does."""
        request = exchange.request
        try:
            if request.verb == "watch":
                await self._watch(exchange)
                return
            code, answer = self._result(request)
        except Refused as refused:
            await exchange.refuse(refused)
        else:
            await exchange.reply(code, json.dumps(answer).encode())

    def carry_out(self, request: Request) -> None:
        """Do what a request asks for and tell nobody."""
        with suppress(Refused):
            self._result(request)

    def pending(self, verb: str) -> int:
        """Scripted answers that nobody asked for yet."""
        return len(self._scripts[verb])

    async def _watch(self, exchange: Exchange) -> None:
        if int(exchange.request.query["resourceVersion"]) < self.store.oldest:
            raise Refused(410, "Expired", "too old resource version")
        await exchange.serve_watch()

    def _result(self, request: Request) -> tuple[int, Json]:
        address = Address.parse(request.path)
        if request.verb == "get":
            return 200, self.store.get(address)
        if request.verb == "list":
            return 200, self._list(request, address)
        if request.verb == "post" and not address.subresource:
            return 201, self.store.create(address, request.json())
        if request.verb == "patch":
            return 200, self.store.patch(address, request.headers["content-type"], request.json())
        raise Refused(404, "NotFound", f"{request.method} {request.path} is not found", {"name": address.name})

    def _list(self, request: Request, address: Address) -> Json:
        fields = dict(one.split("=") for one in request.query.get("fieldSelector", "").split(",") if one)
        items = self.store.list(address, fields)
        start = int(request.query.get("continue") or 0)
        end = start + int(request.query.get("limit") or len(items) or 1)
        metadata = {"resourceVersion": str(self.store.version)}
        if end < len(items):
            metadata["continue"] = str(end)
        return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items[start:end]}


async def _read(reader: asyncio.StreamReader) -> Request | None:
    first = await reader.readline()
    if not first:
        return None
    method, target, _ = first.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while raw := (await reader.readline()).decode().strip():
        name, _, value = raw.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    return Request(method, unquote(url.path), dict(parse_qsl(url.query)), headers, body)
