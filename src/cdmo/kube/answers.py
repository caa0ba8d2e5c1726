"""Answers of an API server, read no further than any real one goes."""

from __future__ import annotations

from contextlib import aclosing

import httpx2

# A page of 500 pods is some 10 MB, the MigNodes of 5,000 nodes some 100 MB.
ANSWER_LIMIT = 512 * 1024 * 1024  # bytes, decompressed

_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")


async def read_whole(response: httpx2.Response, limit: int = ANSWER_LIMIT) -> httpx2.Response:
    """A streamed response, read to its end and closed. Raises httpx2's own failures, ReadError for an answer of more
    than `limit` bytes: counted as it is decompressed, so that a small body cannot become a huge one."""
    content = bytearray()
    try:
        async with aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > limit:
                    raise httpx2.ReadError(f"the answer is longer than {limit} bytes", request=response.request)
    finally:
        await response.aclose()
    headers = {name: value for name, value in response.headers.items() if name.lower() not in _OF_THE_TRANSFER}
    return httpx2.Response(response.status_code, headers=headers, content=bytes(content), request=response.request)
