"""Leader election on a coordination.k8s.io Lease.

The holder writes the Lease again every `retry_s`. Others take it over once they have watched it unchanged for
`lease_s` by their own clock (clocks of two machines are never compared). The holder, in turn, stops believing in
itself `renew_s` after the last write that succeeded was *begun*: renew_s < lease_s, so that it has stopped before
anybody else can start, also when it was paused, cut off or suspended in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import msgspec
import structlog

from cdmo.api.decoding import decoder
from cdmo.errors import AlreadyExists, ClusterError, Conflict, NotFound
from cdmo.kube.connect import MERGE_PATCH, Connection
from cdmo.kube.errors import translate
from cdmo.kube.lenient import Int32
from cdmo.kube.resources import LEASE, Ask
from cdmo.runtime.clock import Clock

log = structlog.get_logger(__name__)

_MOST_TRANSITIONS = 2**31 - 1  # the API server refuses more
_LOOKS = 4  # of a standby at the Lease, in the time between two renewals
_AFTER_S = 0.01  # seconds after a Lease has run out that a standby takes it: timers may fire a moment early
_RELEASE_S = 2.0  # limit of the release at the end, seconds


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds; the same as Kubernetes' own components use."""

    lease_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0
    call_s: float = 3.0  # limit of one request: several must fit into renew_s


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: Int32 | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: Int32 | None = None


class _LeaseMetadata(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    resource_version: str | None = None


class _Lease(msgspec.Struct, frozen=True):
    metadata: _LeaseMetadata = _LeaseMetadata()
    spec: _LeaseSpec | None = None


_decode_lease = decoder(_Lease)


class LeaseElector:
    """Takes part in one election. `run` it in a task; ask `is_leader` before every act that only a leader may do."""

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Clock,
        random: Callable[[], float],  # uniform in 0..1
        times: LeaseTimes = LeaseTimes(),
    ) -> None:
        """`identity` must differ between processes and between runs of one process (pod name and a random part)."""
        self._connection = connection
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._random = random
        self._times = times
        self._leads_until = float("-inf")  # monotonic
        self._seen: _LeaseSpec | None = None
        self._seen_at = 0.0  # monotonic time at which `_seen` was first seen as it is
        self._acquired = asyncio.Event()
        self._trouble = ""
        self.terms = 0  # how often this process became the leader

    @property
    def trouble(self) -> str:
        """Why the Lease could not be read or written the last time; empty when all is well."""
        return self._trouble

    def is_leader(self) -> bool:
        """Whether this process leads now. Judged by the clock, not by what `run` last got round to do."""
        return self._clock.monotonic() < self._leads_until

    async def wait_leader(self) -> None:
        """Return once this process leads."""
        while not self.is_leader():
            self._acquired.clear()
            await self._acquired.wait()

    async def run(self) -> NoReturn:
        """Take part until cancelled; then give the Lease back, so that a standby need not wait for its end."""
        try:
            while True:
                await self._round()
                await self._clock.sleep(self._pause())
        finally:
            await self._release()

    def _pause(self) -> float:
        """Until the next round. A standby looks often: what it has not seen change it has to watch for longer, and it
        comes back in the moment in which a Lease runs out. Without an answer a leader asks more often as well."""
        usual = self._times.retry_s * (1 + 0.2 * self._random())
        if self.is_leader():
            return usual / 2 if self._trouble else usual
        often = usual / _LOOKS
        if self._seen is None:
            return often
        left = self._seen_at + self._allowed_s(self._seen) - self._clock.monotonic()
        # Not before: the round would find the Lease held. When it has run out already, the API server is away.
        return min(often, left + _AFTER_S) if left > 0 else often

    async def _round(self) -> None:
        led = self.is_leader()
        try:
            await self._take_or_renew()
        except (Conflict, AlreadyExists):  # somebody else was faster
            self._trouble = ""
        except ClusterError as error:
            self._tell(error)
        else:
            self._trouble = ""
        if led and not self.is_leader():
            log.warning("lease.lost", lease=self._name, identity=self._identity)

    async def _take_or_renew(self) -> None:
        began = self._clock.monotonic()
        try:
            lease = await self._read()
        except NotFound:
            await self._write(Ask("create", LEASE, self._name, self._namespace), _LeaseMetadata(), 0, began)
            return
        spec = lease.spec or _LeaseSpec()
        self._observe(spec)
        if spec.holder_identity == self._identity or self._is_free(spec):
            ask = Ask("patch", LEASE, self._name, self._namespace)
            changes_hands = spec.holder_identity != self._identity
            transitions = min((spec.lease_transitions or 0) + changes_hands, _MOST_TRANSITIONS)
            await self._write(ask, lease.metadata, transitions, began, spec)

    def _observe(self, spec: _LeaseSpec) -> None:
        if spec != self._seen:
            self._seen = spec
            self._seen_at = self._clock.monotonic()

    def _is_free(self, spec: _LeaseSpec) -> bool:
        if not spec.holder_identity:
            return True
        return self._clock.monotonic() >= self._seen_at + self._allowed_s(spec)

    def _allowed_s(self, spec: _LeaseSpec) -> float:
        """How long its holder may be silent: by its own word, or ours when it gives none."""
        return max(float(spec.lease_duration_seconds), 1.0) if spec.lease_duration_seconds else self._times.lease_s

    async def _read(self) -> _Lease:
        ask = Ask("get", LEASE, self._name, self._namespace)
        body = await self._connection.call(ask, limit_s=self._times.call_s)
        return _decode(body, ask)

    async def _write(
        self, ask: Ask, metadata: _LeaseMetadata, transitions: int, began: float, old: _LeaseSpec | None = None
    ) -> None:
        """Write the Lease as ours. `began` is when this attempt began: what we may believe counts from there."""
        now = _micro_time(self._clock.now())
        ours = old is not None and old.holder_identity == self._identity
        spec = _LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=int(self._times.lease_s),
            acquire_time=old.acquire_time if ours and old is not None else now,
            renew_time=now,
            lease_transitions=transitions,
        )
        led = self.is_leader()
        written = await self._put(ask, metadata, spec)
        self._observe(written.spec or spec)
        self._leads_until = began + self._times.renew_s
        if not led and self.is_leader():
            self.terms += 1
            log.info("lease.acquired", lease=self._name, identity=self._identity, term=self.terms)
        self._acquired.set()

    async def _put(self, ask: Ask, metadata: _LeaseMetadata, spec: _LeaseSpec) -> _Lease:
        """Create it, or patch what is ours of it; the resource version makes sure that nobody was faster."""
        if ask.verb == "create":
            head = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": {"name": self._name}}
        else:
            head = {"metadata": {"resourceVersion": metadata.resource_version}}
        content_type = MERGE_PATCH if ask.verb == "patch" else "application/json"
        body = msgspec.json.encode({**head, "spec": spec})
        limit_s = self._times.call_s
        return _decode(await self._connection.call(ask, body=body, content_type=content_type, limit_s=limit_s), ask)

    async def _release(self) -> None:
        """Give the Lease back. We stop leading before the API server hears of it, never after."""
        if not self.is_leader():
            return
        self._leads_until = float("-inf")
        try:
            async with asyncio.timeout(_RELEASE_S):
                lease = await self._read()
                held = lease.spec or _LeaseSpec()
                if held.holder_identity != self._identity:
                    return
                freed = msgspec.structs.replace(held, holder_identity="", lease_duration_seconds=1)
                await self._put(Ask("patch", LEASE, self._name, self._namespace), lease.metadata, freed)
        except (ClusterError, TimeoutError) as error:
            log.warning("lease.not_released", lease=self._name, error=str(error))
        else:
            log.info("lease.released", lease=self._name, identity=self._identity)

    def _tell(self, error: ClusterError) -> None:
        """Log a trouble when it is news, not every two seconds."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("lease.trouble", lease=self._name, error=self._trouble, hint=error.hint)


def _decode(body: bytes, ask: Ask) -> _Lease:
    try:
        return _decode_lease(body)
    except msgspec.MsgspecError as error:
        raise translate(error, ask) from error


def _micro_time(unix: float) -> str:
    """metav1.MicroTime: RFC 3339 with exactly six digits of a second."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
