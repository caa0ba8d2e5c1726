"""What can go wrong with requests, for whom and how often; which request it hits is drawn from the caller's seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from cdmo_harness.api_proxy.requests import Request

READS = ("list", "watch")
WRITES = ("create", "update", "patch", "delete")


class Scope(msgspec.Struct, frozen=True):
    """Whom and what a fault is for. An empty part means: any. Every entry is a shell pattern ("agent-*")."""

    clients: tuple[str, ...] = ()  # names given to `ApiProxy.kubeconfig_for`
    verbs: tuple[str, ...] = ()  # get, list, watch, create, update, patch, delete
    resources: tuple[str, ...] = ()  # pods, nodes/status, leases

    def holds_client(self, client: str) -> bool:
        """Whether the fault is for this client."""
        return _any(self.clients, client)

    def holds(self, client: str, request: Request) -> bool:
        """Whether the fault is for this request."""
        return self.holds_client(client) and _any(self.verbs, request.verb) and _any(self.resources, request.resource)


EVERYTHING = Scope()


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


class Kind(StrEnum):
    """Faults that stand until they run out or are taken away."""

    ANSWER = "answer"  # the proxy answers itself, with `code`; the server never hears of it
    SLOW_ANSWER = "slow answer"  # the server acts at once, its answer waits up to `delay` seconds
    LATE_REQUEST = "late request"  # the request waits up to `delay` seconds, also when its sender gave up meanwhile
    LOSE_ANSWER = "lost answer"  # the server acts, the connection breaks before its answer
    BLACK_HOLE = "black hole"  # the request is taken and never answered
    SWALLOW = "swallowed connection"  # a connection is accepted and nothing ever comes back, not even TLS
    REFUSE = "refused connections"  # nobody listens
    NO_BOOKMARKS = "withheld bookmark"  # watches go on without them


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One standing fault."""

    kind: Kind
    scope: Scope = EVERYTHING
    share: float = 1.0  # of the requests in its scope, 0 to 1
    times: int | None = None  # at most so often; None: no limit
    seconds: float | None = None  # how long it stands; None: until it is taken away
    code: int = 0
    retry_after: int | None = None  # seconds
    delay: float | None = 0.0  # seconds; None: until `clear`


@dataclass(slots=True)
class _Standing:
    fault: Fault
    until: float  # of the clock given to the book
    left: float


class FaultBook:
    """The standing faults, and how often each kind happened."""

    def __init__(self, seed: int, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._random = random.Random(seed)
        self._clock = clock
        self._standing: dict[int, _Standing] = {}
        self._next = 1
        self.counts: Counter[str] = Counter()
        self.held = 0  # late requests that are not carried out yet

    def add(self, fault: Fault) -> int:
        """Let the fault stand; returns its number."""
        until = float("inf") if fault.seconds is None else self._clock() + fault.seconds
        left = float("inf") if fault.times is None else fault.times
        number, self._next = self._next, self._next + 1
        self._standing[number] = _Standing(fault, until, left)
        return number

    def remove(self, number: int) -> None:
        """Take a fault away; fine when it has run out by itself."""
        self._standing.pop(number, None)

    def clear(self) -> None:
        """Take all faults away; what was counted stays."""
        self._standing.clear()

    def draw(self, kind: Kind, client: str, request: Request | None = None) -> Fault | None:
        """The fault of this kind that hits now, if any does; it is counted. Without a request: a connection."""
        now = self._clock()
        for number, one in list(self._standing.items()):
            if now >= one.until:
                del self._standing[number]
            elif one.fault.kind is kind and _holds(one.fault.scope, client, request) and self._hits(one.fault):
                one.left -= 1
                if one.left <= 0:
                    del self._standing[number]
                self.count(one.fault)
                return one.fault
        return None

    def stands(self, kind: Kind, client: str) -> bool:
        """Whether a fault of this kind stands for the client; nothing is drawn or counted."""
        now = self._clock()
        return any(
            one.fault.kind is kind and now < one.until and one.fault.scope.holds_client(client)
            for one in self._standing.values()
        )

    def uniform(self, most: float) -> float:
        """A drawn number of seconds between 0 and `most`."""
        return self._random.uniform(0.0, most)

    def count(self, fault: Fault) -> None:
        """Count one happening."""
        name = f"{fault.kind.value} {fault.code}" if fault.kind is Kind.ANSWER else fault.kind.value
        self.counts[name] += 1

    def _hits(self, fault: Fault) -> bool:
        return fault.share >= 1.0 or self._random.random() < fault.share


def _holds(scope: Scope, client: str, request: Request | None) -> bool:
    return scope.holds_client(client) if request is None else scope.holds(client, request)
