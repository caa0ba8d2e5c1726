"""Writes Events (events.k8s.io/v1), so that `kubectl describe` tells what CDMO did and why.

Events are a courtesy: writing them never raises and never holds the caller up. What is said again within the
dedupe time is not written again; when the API server is away the newest are kept, the oldest dropped and counted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import msgspec
import structlog

from cdmo.errors import AlreadyExists, ClusterError
from cdmo.kube.connect import Connection
from cdmo.kube.errors import retry_after_s
from cdmo.kube.port import Event
from cdmo.kube.resources import EVENT, MIG_NODE, Ask
from cdmo.runtime.clock import Clock

log = structlog.get_logger(__name__)

NOTE_LIMIT = 1024  # bytes of an Event's note; the API refuses more
_NAME_LIMIT = 200  # characters of the object's name in an Event's own
_CLUSTER_NAMESPACE = "default"  # where the API wants Events about objects that have no namespace


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Times in seconds."""

    dedupe_s: float = 300.0
    queue: int = 256  # Events waiting to be written
    remembered: int = 4096  # Events remembered for the dedupe time
    tries: int = 4  # of writing one Event while the API server does not answer
    pause_s: float = 1.0  # before the second try; doubled for each further one
    farewell_s: float = 2.0  # for what is still queued when `run` is cancelled


@dataclass(frozen=True, slots=True)
class _Queued:
    when: float  # Unix time
    name: str  # of the object that will be written
    event: Event


class Recorder:
    """An EventSink. `run` it in a task."""

    def __init__(
        self,
        connection: Connection,
        component: str,
        instance: str,
        *,
        clock: Clock,
        random: Callable[[], float],  # uniform in 0..1
        settings: RecorderSettings = RecorderSettings(),
    ) -> None:
        """`component` is who speaks ("cdmo-controller"), `instance` which one (the pod's or node's name)."""
        self._connection = connection
        self._component = component
        self._instance = instance
        self._clock = clock
        self._random = random
        self._settings = settings
        self._queue: deque[_Queued] = deque()
        self._numbers = itertools.count()
        self._waiting = asyncio.Event()
        self._said: dict[Event, float] = {}  # when it was last taken, monotonic; oldest first
        self.dropped = 0  # Events lost: queue full, refused, or the API server away for too long

    @property
    def queued(self) -> int:
        """How many Events wait to be written."""
        return len(self._queue)

    def emit(self, event: Event) -> None:
        """Queue the Event, unless it was queued within the dedupe time."""
        now = self._clock.monotonic()
        if event in self._said and now - self._said[event] < self._settings.dedupe_s:
            return
        self._remember(event, now)
        if len(self._queue) >= self._settings.queue:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(self._queued(event))
        self._waiting.set()

    def _queued(self, event: Event) -> _Queued:
        # Named here and not by the API server: a write whose answer was lost is then done once, however often it
        # is tried. Two processes do not write about one object in the same nanosecond.
        when = self._clock.now()
        stem = event.involved.name[:_NAME_LIMIT].rstrip(".-")
        return _Queued(when, f"{stem}.{int(when * 1e9):x}{next(self._numbers):04x}", event)

    def _remember(self, event: Event, now: float) -> None:
        self._said.pop(event, None)  # so that it goes to the end: the dict stays in order of time
        self._said[event] = now
        while self._said:
            oldest, when = next(iter(self._said.items()))
            if len(self._said) <= self._settings.remembered and now - when < self._settings.dedupe_s:
                break
            del self._said[oldest]

    async def run(self) -> NoReturn:
        """Write queued Events until cancelled; then, for a moment, what is still queued."""
        try:
            while True:
                while self._queue:
                    # Taken off only when done with: a cancellation in between leaves it for the farewell.
                    first = self._queue[0]
                    await self._write_patiently(first)
                    self._discard(first)
                self._waiting.clear()
                await self._waiting.wait()
        finally:
            await self._farewell()

    def _discard(self, done: _Queued) -> None:
        # While it was written the full queue may have pushed it out itself.
        if self._queue and self._queue[0] is done:
            self._queue.popleft()

    async def _farewell(self) -> None:
        try:
            async with asyncio.timeout(self._settings.farewell_s):
                while self._queue:
                    await self._write(self._queue[0])
                    self._queue.popleft()
        except (ClusterError, TimeoutError) as error:
            self.dropped += len(self._queue)
            log.info("events.unwritten", count=len(self._queue), error=str(error))

    async def _write_patiently(self, queued: _Queued) -> None:
        for attempt in range(self._settings.tries):
            try:
                await self._write(queued)
            except ClusterError as error:
                if not error.retryable or attempt + 1 == self._settings.tries:
                    self.dropped += 1
                    log.warning("event.dropped", reason=queued.event.reason, error=str(error), hint=error.hint)
                    return
                pause = self._settings.pause_s * 2**attempt * (0.5 + self._random() / 2)
                await self._clock.sleep(max(pause, retry_after_s(error)))
            else:
                return

    async def _write(self, queued: _Queued) -> None:
        event = queued.event
        involved = event.involved
        namespace = involved.namespace or _CLUSTER_NAMESPACE
        regarding = {
            "apiVersion": MIG_NODE.api_version if involved.kind == MIG_NODE.kind else "v1",
            "kind": involved.kind,
            "name": involved.name,
            "namespace": involved.namespace,
            "uid": involved.uid,
        }
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": queued.name, "namespace": namespace},
            "eventTime": datetime.fromtimestamp(queued.when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason.value,
            "action": event.reason.value,
            "note": cut(event.message, NOTE_LIMIT),
            "regarding": {field: value for field, value in regarding.items() if value},
            "reportingController": self._component,
            "reportingInstance": self._instance[:128],
        }
        ask = Ask("create", EVENT, queued.name, namespace)
        try:
            await self._connection.call(ask, body=msgspec.json.encode(body))
        except AlreadyExists:  # an earlier try came through, and its answer did not
            log.debug("event.written_before", name=queued.name)


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8, with an ellipsis where it was cut."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - len("…".encode())].decode(errors="ignore") + "…"
