"""Who may see what is served, as controller-runtime does it for metrics: a bearer token that the API server knows
(TokenReview), of somebody who may `get` the path (SubjectAccessReview, nonResourceURLs).

The API server's word is kept for a short time, in a bounded store and under a hash of the token. Only so many unknown
tokens are asked about at once: whoever can reach the port must not be able to make us flood the API server.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import structlog

from cdmo.errors import ClusterError
from cdmo.runtime.clock import Clock

logger = structlog.get_logger(__name__)


class Verdict(Enum):
    """What a caller is told."""

    ALLOWED = 200
    UNKNOWN = 401  # no token, or nobody's
    FORBIDDEN = 403  # somebody's who may not see this
    BUSY = 429  # too many unknown tokens at once
    UNDECIDED = 503  # the API server cannot be asked: nobody gets in


class AccessReviewer(Protocol):
    """The API server's word."""

    async def may_get(self, token: str, path: str) -> bool | None:
        """Whether the token's owner may `get` the path; None when it is nobody's. Raises ClusterError."""
        ...


class Access(Protocol):
    """Decides about one request."""

    async def of(self, authorization: str, path: str) -> Verdict:
        """`authorization` is the header's value, empty where there was none."""
        ...


class OpenAccess:
    """For a loopback address: whoever is on this machine may read."""

    async def of(self, authorization: str, path: str) -> Verdict:
        """Yes."""
        return Verdict.ALLOWED


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """Times in seconds."""

    allowed_for: float = 60.0
    refused_for: float = 10.0
    remembered: int = 256
    at_once: int = 4  # reviews under way
    longest_token: int = 8192


class ReviewedAccess:
    """Asks the API server."""

    def __init__(self, reviewer: AccessReviewer, clock: Clock, limits: AccessLimits) -> None:
        self._reviewer = reviewer
        self._clock = clock
        self._limits = limits
        self._known: OrderedDict[bytes, tuple[Verdict, float]] = OrderedDict()  # until when; oldest first
        self._reviews = 0

    async def of(self, authorization: str, path: str) -> Verdict:
        """What the API server says, now or a short time ago."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > self._limits.longest_token:
            return Verdict.UNKNOWN
        key = hashlib.sha256(f"{path} {token}".encode()).digest()
        known = self._known.get(key)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        if self._reviews >= self._limits.at_once:
            return Verdict.BUSY
        return await self._review(key, token, path)

    async def _review(self, key: bytes, token: str, path: str) -> Verdict:
        self._reviews += 1
        try:
            allowed = await self._reviewer.may_get(token, path)
        except ClusterError as error:
            logger.warning("a token could not be reviewed", error=str(error), hint=error.hint)
            return Verdict.UNDECIDED
        finally:
            self._reviews -= 1
        verdict = Verdict.UNKNOWN if allowed is None else Verdict.ALLOWED if allowed else Verdict.FORBIDDEN
        kept = self._limits.allowed_for if allowed else self._limits.refused_for
        self._known.pop(key, None)
        self._known[key] = (verdict, self._clock.monotonic() + kept)
        while len(self._known) > self._limits.remembered:
            self._known.popitem(last=False)
        return verdict
