"""Answers of an API server are read to their end, and no further than a limit."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from cdmo.kube.answers import Answer, Refused, read_whole


@asynccontextmanager
async def answering(*pieces: bytes, endless: bool = False, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """The head of an answer whose body comes in these chunks, the last of them for ever if it is endless. At the end
    the server must have been told that nobody listens any more."""
    gone = asyncio.Event()
    named = {"Transfer-Encoding": "chunked", **{name.replace("_", "-"): text for name, text in headers.items()}}
    head = "".join(f"{name}: {text}\r\n" for name, text in named.items())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 429 Too Many Requests\r\n{head}\r\n".encode())
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        try:
            while endless:
                writer.write(b"%x\r\n%s\r\n" % (len(pieces[-1]), pieces[-1]))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await reader.read()
        except ConnectionError:
            pass
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with aiohttp.ClientSession() as session:
            yield await session.get(f"http://127.0.0.1:{port}/api/v1/pods")
        async with asyncio.timeout(5):
            await gone.wait()


async def test_an_answer_in_pieces_is_whole_afterwards() -> None:
    async with answering(b"{", b"}", Retry_After="3") as response:
        answer = await read_whole(response)
    assert answer == Answer(429, b"{}", "3")
    with pytest.raises(Refused, match="429"):
        answer.expect_success()


async def test_a_compressed_answer_is_read_once() -> None:
    async with answering(gzip.compress(b"x" * 900), Content_Encoding="gzip") as response:
        assert (await read_whole(response)).content == b"x" * 900


async def test_an_answer_that_never_ends_is_given_up_and_its_connection_closed() -> None:
    async with answering(b"x" * 100, endless=True) as response:
        with pytest.raises(aiohttp.ClientPayloadError, match="longer than 1000 bytes"):
            await read_whole(response, 1000)
        assert response.connection is None


async def test_what_a_small_body_decompresses_to_counts() -> None:
    bomb = gzip.compress(b"\0" * 10_000)
    assert len(bomb) < 1000
    async with answering(bomb, Content_Encoding="gzip") as response:
        with pytest.raises(aiohttp.ClientPayloadError, match="longer than 1000 bytes"):
            await read_whole(response, 1000)


@pytest.mark.parametrize("status", [199, 300, 302, 400, 500])
def test_only_a_success_is_one(status: int) -> None:
    Answer(200, b"").expect_success()
    Answer(299, b"").expect_success()
    with pytest.raises(Refused):
        Answer(status, b"").expect_success()
