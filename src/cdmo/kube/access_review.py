"""Whether a token's owner may see what we serve: the API server is asked, in two steps.

TokenReview says whose the token is, SubjectAccessReview whether they may `get` a path (nonResourceURLs).
"""

from __future__ import annotations

import msgspec

from cdmo.api.decoding import decoder
from cdmo.kube.connect import Connection
from cdmo.kube.errors import translate
from cdmo.kube.resources import SUBJECT_ACCESS_REVIEW, TOKEN_REVIEW, Ask

_CALL_S = 5.0  # limit of one request, seconds: whoever asked waits for two


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = None
    extra: dict[str, tuple[str, ...]] | None = None


class _TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User | None = None


class _TokenReview(msgspec.Struct, frozen=True):
    status: _TokenStatus = _TokenStatus()


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False
    denied: bool = False


class _AccessReview(msgspec.Struct, frozen=True):
    status: _AccessStatus = _AccessStatus()


_decode_token = decoder(_TokenReview)
_decode_access = decoder(_AccessReview)


class KubeAccessReview:
    """An AccessReviewer (serving/access.py) over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def may_get(self, token: str, path: str) -> bool | None:
        """Whether the token's owner may `get` the path; None when the API server knows no owner. Raises
        ClusterError."""
        user = await self._owner(token)
        if user is None:
            return None
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups or (),
            "extra": user.extra or {},
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        ask = Ask("create", SUBJECT_ACCESS_REVIEW)
        body = await self._create(ask, spec)
        try:
            status = _decode_access(body).status
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        return status.allowed and not status.denied

    async def _owner(self, token: str) -> _User | None:
        ask = Ask("create", TOKEN_REVIEW)
        body = await self._create(ask, {"token": token})
        try:
            status = _decode_token(body).status
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        known = status.authenticated and status.user is not None and status.user.username
        return status.user if known else None

    async def _create(self, ask: Ask, spec: object) -> bytes:
        kind = ask.kind
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
        return await self._connection.call(ask, body=msgspec.json.encode(body), limit_s=_CALL_S)
