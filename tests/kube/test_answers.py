"""Answers of an API server are read to their end, and no further than a limit."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx2
import pytest

from cdmo.kube.answers import read_whole

REQUEST = httpx2.Request("GET", "https://10.0.0.1/api/v1/pods")


class Body(httpx2.AsyncByteStream):
    """A body in pieces, endless or not; tells whether it was closed."""

    def __init__(self, *pieces: bytes, endless: bool = False) -> None:
        self._pieces = pieces
        self._endless = endless
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for each in self._pieces:
            yield each
        while self._endless:
            yield self._pieces[-1]

    async def aclose(self) -> None:
        self.closed = True


async def read(body: Body, limit: int = 1000, status: int = 200, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await read_whole(httpx2.Response(status, headers=named, stream=body, request=REQUEST), limit)


async def test_an_answer_in_pieces_is_whole_afterwards_and_closed() -> None:
    body = Body(b"{", b"}")
    answer = await read(body, status=429, retry_after="3")
    assert (answer.content, answer.status_code, answer.headers["Retry-After"]) == (b"{}", 429, "3")
    assert body.closed
    with pytest.raises(httpx2.HTTPStatusError):
        answer.raise_for_status()


async def test_a_compressed_answer_is_read_once() -> None:
    answer = await read(Body(gzip.compress(b"x" * 900)), content_encoding="gzip")
    assert answer.content == b"x" * 900


async def test_an_answer_that_never_ends_is_given_up() -> None:
    body = Body(b"x" * 100, endless=True)
    with pytest.raises(httpx2.ReadError, match="longer than 1000 bytes"):
        await read(body)
    assert body.closed


async def test_what_a_small_body_decompresses_to_counts() -> None:
    bomb = gzip.compress(b"\0" * 10_000)
    assert len(bomb) < 1000
    with pytest.raises(httpx2.ReadError, match="longer than 1000 bytes"):
        await read(Body(bomb), content_encoding="gzip")
