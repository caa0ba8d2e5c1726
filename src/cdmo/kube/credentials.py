"""The header by which this process says who it is, as lightkube makes it: token, token file, password, a program.

lightkube's ways to authenticate are flows of requests and answers of its own transport. They are led through one
request here for the header that they put on it, and once more when the API server did not take that.
"""

from __future__ import annotations

from contextlib import aclosing

import httpx2

_HEADER = "Authorization"


class Credentials:
    """Of one user of one API server. Not asked again for each request: a token file is read, and a program run, at
    the first one and where the API server answers 401."""

    def __init__(self, auth: httpx2.Auth | None, server: str) -> None:
        """`auth`: None where nothing but a client certificate, or nothing at all, is shown to `server`."""
        self._auth = auth
        self._server = server
        self._header: dict[str, str] | None = None if auth is not None else {}

    async def header(self) -> dict[str, str]:
        """What to send along. Raises what lightkube does: ConfigError, OSError."""
        if self._header is None:
            assert self._auth is not None
            async with aclosing(self._auth.async_auth_flow(self._request())) as flow:
                self._header = _of(await anext(flow))
        return self._header

    async def renewed(self) -> bool:
        """The API server did not take the header: whether there is now another one to try."""
        if self._auth is None:
            return False
        async with aclosing(self._auth.async_auth_flow(self._request())) as flow:
            request = await anext(flow)
            try:
                self._header = _of(await flow.asend(httpx2.Response(401, request=request)))
            except StopAsyncIteration:
                return False
        return True

    def _request(self) -> httpx2.Request:
        return httpx2.Request("GET", self._server)


def _of(request: httpx2.Request) -> dict[str, str]:
    value = request.headers.get(_HEADER)
    return {} if value is None else {_HEADER: value}
