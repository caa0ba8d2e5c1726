"""Requests to what a process serves about itself, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry

from cdmo.serving.access import OpenAccess
from cdmo.serving.health import Health
from cdmo.serving.pages import Pages
from cdmo.serving.server import Server, ServerLimits, listen
from tests.fuzz.target import Run, Target

_LONGEST_ANSWER = 1 << 20  # bytes


async def _asked(address: tuple[str, int], content: bytes) -> bytes:
    """What comes back to these bytes, up to the end of the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        with suppress(ConnectionError):
            writer.write(content)
            writer.write_eof()
            return await reader.read(_LONGEST_ANSWER)
        return b""
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@contextmanager
def _serving(folder: Path) -> Iterator[Run]:
    """An HTTP answer or the end of the connection; whoever asks next is answered."""
    pages = Pages(Health({}, {}), CollectorRegistry(), OpenAccess())
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        server = Server(listen("127.0.0.1", 0), pages, None, ServerLimits())
        task = loop.create_task(server.run())

        def run(content: bytes) -> bool:
            answer = loop.run_until_complete(_asked(server.address, content))
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert b"Traceback" not in answer
            assert loop.run_until_complete(
                _asked(server.address, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            ).endswith(b"ok\n")
            assert not task.done()
            return b" 200 " in answer.partition(b"\r\n")[0]

        yield run
        task.cancel()
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)


_REQUESTS = (
    b"GET /metrics HTTP/1.1\r\nHost: 10.0.0.1:8080\r\nAuthorization: Bearer abc\r\nAccept: text/plain\r\n\r\n",
    b"HEAD /readyz?verbose HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: kube-probe/1.37\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /livez HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
)

TARGETS = (Target("http", 3, lambda: _REQUESTS, _serving),)
