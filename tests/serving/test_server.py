"""The server under good and under bad clients."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cdmo.errors import BadSettings
from cdmo.serving.pages import Answer, Pages, Request
from cdmo.serving.server import ServerLimits, listen
from tests.serving.client import LIMIT, get, pages, parsed, send, serving

QUICK = ServerLimits(connection_s=0.2, connections=4)


async def test_a_request_is_answered_and_the_connection_ends() -> None:
    async with serving(pages()) as server:
        got = await get(server, "/metrics?name=x")
    assert got.status == 200
    assert "answer 42.0" in got.body
    assert got.headers["connection"] == "close"
    assert int(got.headers["content-length"]) == len(got.body.encode())


async def test_a_head_request_gets_no_body() -> None:
    async with serving(pages()) as server:
        got = await get(server, "/livez", method="HEAD")
    assert (got.status, got.body, got.headers["content-length"]) == (200, "", "3")


async def test_a_body_is_not_waited_for() -> None:
    async with serving(pages()) as server:
        answer = await send(server, b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n")
    assert parsed(answer).status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nBad header\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 9000 + b"\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS where plain HTTP is spoken
    ],
)
async def test_what_is_no_request_is_refused(sent: bytes, status: int) -> None:
    async with serving(pages()) as server:
        try:
            assert parsed(await send(server, sent)).status == status
        except ConnectionResetError:
            assert len(sent) > 20000  # so much was left unread that the kernel resets the connection
        assert (await get(server, "/livez")).status == 200


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_end_the_server(content: bytes) -> None:
    async def run() -> None:
        async with serving(pages(), limits=ServerLimits(connection_s=0.02)) as server:
            await send(server, content)
            assert (await get(server, "/livez")).status in (200, 503)

    asyncio.run(_patient(run))


async def _patient(run: object) -> None:
    for _ in range(5):  # 20 ms is little on a busy machine: a good request may be cut off as well
        try:
            return await run()  # type: ignore[operator, no-any-return]
        except (ConnectionError, IndexError, ValueError):
            continue
    raise AssertionError("not one good request came through")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTT", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
async def test_who_does_not_finish_a_request_is_cut_off(sent: bytes) -> None:
    async with serving(pages(), limits=QUICK) as server:
        assert await send(server, sent) == b""


async def test_who_does_not_read_the_answer_is_cut_off() -> None:
    class Huge(Pages):
        def __init__(self) -> None:
            pass

        async def answer(self, request: Request) -> Answer:
            return Answer(200, b"x" * (32 << 20))

    async with serving(Huge(), limits=QUICK) as server:
        async with asyncio.timeout(LIMIT):
            reader, writer = await asyncio.open_connection(*server.address, limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()
            while server._connections or not reader._buffer:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0)
            writer.transport.abort()


async def test_whoever_holds_connections_open_does_not_keep_a_probe_out() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(pages(), limits=ServerLimits(connections=4)))
        for _ in range(20):
            _, writer = await asyncio.open_connection(*server.address)
            stack.callback(writer.close)
        assert (await get(server, "/livez")).status == 200
        assert len(server._connections) <= 4


async def test_a_page_that_fails_ends_no_process_and_leaks_nothing() -> None:
    class Broken(Pages):
        def __init__(self) -> None:
            pass

        async def answer(self, request: Request) -> Answer:
            raise RuntimeError("inside")

    with capture_logs() as logs:
        async with serving(Broken()) as server:
            assert await send(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
            assert await send(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert sum(each["event"] == "a request could not be answered" for each in logs) == 2


async def test_a_port_that_is_taken_is_told() -> None:
    first = listen("127.0.0.1", 0)
    try:
        with pytest.raises(BadSettings, match="cannot be listened on") as raised:
            listen("127.0.0.1", first.getsockname()[1])
    finally:
        first.close()
    assert "--listen" in raised.value.hint


async def test_ipv6_is_served_too() -> None:
    try:
        listener = listen("::1", 0)
    except BadSettings:
        return  # a machine without IPv6
    listener.close()


async def test_when_it_ends_nothing_is_left_open() -> None:
    async with serving(pages()) as server:
        reader, writer = await asyncio.open_connection(*server.address)
    async with asyncio.timeout(LIMIT):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection(*server.address)
