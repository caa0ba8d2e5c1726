"""Answers of an API server, read no further than any real one goes."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

# A page of 500 pods is some 10 MB, the MigNodes of 5,000 nodes some 100 MB.
ANSWER_LIMIT = 512 * 1024 * 1024  # bytes, decompressed


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read whole."""

    status: int  # of HTTP
    content: bytes  # decompressed
    retry_after: str = ""  # the header, as it came

    def expect_success(self) -> None:
        """Raises Refused."""
        if not is_success(self.status):
            raise Refused(self)


def is_success(status: int) -> bool:
    """Whether an HTTP status is one; where to look elsewhere is none."""
    return 200 <= status < 300


class Refused(Exception):
    """An answer that is no success. It stays inside of kube: errors.py makes one of CDMO's failures of it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


async def read_whole(response: aiohttp.ClientResponse, limit: int = ANSWER_LIMIT) -> Answer:
    """A response, read to its end. Raises aiohttp's own failures, ClientPayloadError for an answer of more than
    `limit` bytes: counted as it is decompressed, so that a small body cannot become a huge one."""
    content = bytearray()
    try:
        async for piece in response.content.iter_any():
            content += piece
            if len(content) > limit:
                raise aiohttp.ClientPayloadError(f"the answer is longer than {limit} bytes")
    finally:
        hang_up(response)
    return Answer(response.status, bytes(content), response.headers.get("Retry-After", ""))


def hang_up(response: aiohttp.ClientResponse) -> None:
    """Have done with a response. Where it was read to its end its connection is kept for the next one, else that is
    closed at once: TLS would wait for the peer to say goodbye, who may never do."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
