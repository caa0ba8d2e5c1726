"""A client that can be as rude as the network is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge

from cdmo.serving.access import Access, OpenAccess
from cdmo.serving.health import Health
from cdmo.serving.pages import Pages
from cdmo.serving.server import Server, ServerLimits, listen

_LIMITS = ServerLimits()
LIMIT = 10.0  # seconds, for whatever must come at all


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: str


def pages(access: Access | None = None, **wrong: str) -> Pages:
    """The pages of a process in which `wrong` checks say what they are given: live_… and ready_…."""
    registry = CollectorRegistry()
    Gauge("answer", "To everything.", registry=registry).set(42)

    def checks(prefix: str) -> dict[str, Callable[[], str]]:
        said = {name.removeprefix(prefix): text for name, text in wrong.items() if name.startswith(prefix)}
        return {"fine": lambda: "", **{name: (lambda text=text: text) for name, text in said.items()}}

    return Pages(Health(checks("live_"), checks("ready_")), registry, access or OpenAccess())


@asynccontextmanager
async def serving(
    what: Pages,
    *,
    context: Callable[[], ssl.SSLContext] | None = None,
    limits: ServerLimits = _LIMITS,
) -> AsyncIterator[Server]:
    """A server on a free loopback port."""
    server = Server(listen("127.0.0.1", 0), what, context, limits)
    task = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def send(server: Server, content: bytes, *, tls: ssl.SSLContext | None = None) -> bytes:
    """Send these bytes, return everything that comes until the other end closes."""
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(*server.address, ssl=tls)
        writer.write(content)
        await writer.drain()
        try:
            return await reader.read()
        finally:
            writer.close()


async def get(
    server: Server, path: str, *, token: str = "", method: str = "GET", tls: ssl.SSLContext | None = None
) -> Got:
    """One request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: cdmo\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return parsed(await send(server, f"{head}\r\n".encode(), tls=tls))


def parsed(answer: bytes) -> Got:
    """An answer, taken apart."""
    head, _, body = answer.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Got(int(first.split()[1]), headers, body)


def trusting() -> ssl.SSLContext:
    """As the kubelet's probes and most scrapers: any certificate will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
