"""A live copy of one kind of object: list once, then watch, whatever happens in between.

    list (pages of 500) ──> watch from its version ──EOF──> watch from the last event's version
         ^                        │
         └── 410, HTTP or inside the stream; or the watch failed several times in a row

Whatever goes wrong is waited out with a growing, jittered pause. A list replaces the whole copy, so that what
was deleted while nobody watched disappears. Objects that cannot be read are left out, counted and logged once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, NoReturn, TypeVar

import msgspec
import structlog

from cdmo.errors import ClusterError, ClusterUnavailable, Expired
from cdmo.kube.connect import Connection
from cdmo.kube.errors import failure_of_status, retry_after_s, status_of, translate
from cdmo.kube.pages import pages
from cdmo.kube.port import Mirror
from cdmo.kube.resources import Ask, Kind
from cdmo.kube.wire import decode_event, identity, lines
from cdmo.runtime.clock import Clock

T = TypeVar("T")
OnChange = Callable[[str, T | None, T | None], None]  # key, old, new; None: was not, or is no longer, there

log = structlog.get_logger(__name__)

_RELIST_AFTER = 3  # failures in a row after which the last version is no longer trusted
_SHORT_S = 1.0  # a watch that ended sooner, without one event, counts as a failure
_STOOD_S = 10.0  # a watch that stood so long was a success, whether it had anything to tell or not


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How a reflector lists, watches and waits. Times in seconds."""

    page: int = 500  # objects in one page of a list
    watch_s: int = 240  # the server ends a watch after this and up to a fifth more
    # Without a byte for longer a watch is taken for dead, although its connection stands. A server sends a bookmark
    # every minute; the first was seen to come after two (API server 1.37).
    silence_s: float = 180.0
    pause_least_s: float = 0.2
    # A process serves nobody before the last of its watches is back, so the longest pause is short. Servers that have
    # too much to do say how long to wait (Retry-After), and are heard.
    pause_most_s: float = 2.0


class Reflector(Generic[T]):
    """Keeps `items` equal to the API server's objects of one kind, as values made by `convert`.

    `on_change` is called in the event loop for each change of a value, in order; it must not block. An update
    that leaves the value equal is no change.
    """

    def __init__(
        self,
        connection: Connection,
        kind: Kind,
        convert: Callable[[msgspec.Raw], T],
        on_change: OnChange[T],
        *,
        clock: Clock,
        random: Callable[[], float],  # uniform in 0..1
        namespace: str = "",
        field_selector: str = "",
        settings: WatchSettings = WatchSettings(),
    ) -> None:
        self._connection = connection
        self._kind = kind
        self._namespace = namespace
        self._convert = convert
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self._settings = settings
        self._selectors = {"fieldSelector": field_selector} if field_selector else {}
        self._items: dict[str, T] = {}
        self._changes: list[set[str]] = []  # of each mirror, what its reader has not been told
        self._version = ""  # of the last list, event or bookmark; empty: list first
        self._failures = 0  # in a row, without any progress
        self._synced = asyncio.Event()
        self._waiting: list[Callable[[], None]] = []  # to be told that it is synced
        self._unreadable: dict[str, str] = {}

    @property
    def items(self) -> Mapping[str, T]:
        """What is there now; a view that changes. Keys are "namespace/name" or "name"."""
        return MappingProxyType(self._items)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Objects that are there but cannot be read, and why."""
        return MappingProxyType(self._unreadable)

    @property
    def synced(self) -> bool:
        """Whether `items` is the whole truth: listed in full, and watched without a break since."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once `synced` holds."""
        await self._synced.wait()

    def when_synced(self, tell: Callable[[], None]) -> None:
        """Have this called each time `synced` comes to hold: after a break, too, that nothing changed in."""
        self._waiting.append(tell)

    def _become_synced(self) -> None:
        if not self._synced.is_set():
            self._synced.set()
            for tell in self._waiting:
                tell()

    def mirror(self) -> Mirror[T]:
        """This copy as the port hands it out. Each mirror tells its own reader what changed."""
        changes: set[str] = set(self._items)
        self._changes.append(changes)

        def changed() -> set[str]:
            told = set(changes)
            changes.clear()
            return told

        return Mirror(items=lambda: self.items, synced=lambda: self.synced, changed=changed)

    async def run(self) -> NoReturn:
        """Follow the API server until cancelled."""
        try:
            while True:
                try:
                    if not self._version:
                        await self._list()
                    await self._watch()
                except ClusterError as error:
                    await self._recover(error)
        finally:
            self._synced.clear()

    # --- failures -------------------------------------------------------------------------------------------

    async def _recover(self, error: ClusterError) -> None:
        """Decide where to go on from, and wait."""
        self._failures += 1
        self._synced.clear()
        if isinstance(error, Expired) or self._failures >= _RELIST_AFTER:
            self._version = ""
        pause = max(self._pause(), retry_after_s(error))
        # The first failure is everyday life (a server restarts, a version is too old); a row of them is not.
        tell = log.info if self._failures == 1 else log.warning
        tell("watch.broken", kind=self._kind.kind, error=str(error), failures=self._failures, pause_s=round(pause, 2))
        await self._clock.sleep(pause)

    def _pause(self) -> float:
        least, most = self._settings.pause_least_s, self._settings.pause_most_s
        ceiling = min(most, least * 2.0 ** min(self._failures, 16))
        return least + (ceiling - least) * self._random()

    # --- list -----------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        """Replace the whole copy by what the API server has. Without a resourceVersion: a quorum read, which
        cannot be older than what was already seen."""
        ask = Ask("list", self._kind, namespace=self._namespace)
        found: dict[str, T] = {}
        unreadable: dict[str, str] = {}
        version = ""
        async for page in pages(self._connection, ask, {**self._selectors, "limit": str(self._settings.page)}):
            for raw in page.items or ():
                self._read(raw, found, unreadable)
            version = version or page.metadata.resource_version or ""
        if not version:
            raise ClusterUnavailable(f"could not {ask}: the list has no resource version")
        self._replace(found, unreadable)
        self._version = version
        self._become_synced()

    def _read(self, raw: msgspec.Raw, found: dict[str, T], unreadable: dict[str, str]) -> None:
        key, _ = identity(raw)
        try:
            value = self._convert(raw)
        except Exception as error:  # whatever is odd about it: one object must never stop the others
            self._leave_out(key, error, unreadable)
        else:
            found[key] = value
            unreadable.pop(key, None)

    def _leave_out(self, key: str, error: Exception, unreadable: dict[str, str]) -> None:
        if key not in self._unreadable:
            log.warning("object.unreadable", kind=self._kind.kind, key=key, error=str(error)[:300])
        unreadable[key] = str(error)[:300]

    def _replace(self, found: dict[str, T], unreadable: dict[str, str]) -> None:
        self._unreadable = unreadable
        for key in [key for key in self._items if key not in found]:
            self._set(key, None)
        for key, value in found.items():
            self._set(key, value)

    def _set(self, key: str, new: T | None) -> None:
        old = self._items.get(key)
        if new is None:
            self._items.pop(key, None)
        else:
            self._items[key] = new
        if old != new:
            for changes in self._changes:
                changes.add(key)
            self._on_change(key, old, new)

    # --- watch ----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow the changes since `_version` until the server ends the stream."""
        ask = Ask("watch", self._kind, namespace=self._namespace)
        # Spread, so that all watches of all processes do not end at once.
        server_s = self._settings.watch_s + int(self._settings.watch_s * 0.2 * self._random())
        params = {
            **self._selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(server_s),
        }
        began = self._clock.monotonic()
        seen = False
        async with self._connection.stream(ask, params, self._settings.silence_s) as chunks:
            self._become_synced()
            opened = self._clock.monotonic()
            try:
                async for line in lines(chunks, ask):
                    self._apply(line, ask)
                    self._failures = 0
                    seen = True
            finally:
                if self._clock.monotonic() - opened >= _STOOD_S:
                    self._failures = 0
        if not seen and self._clock.monotonic() - began < _SHORT_S:
            raise ClusterUnavailable(f"could not {ask}: the stream ended at once")
        self._failures = 0

    def _apply(self, line: bytes, ask: Ask) -> None:
        try:
            event = decode_event(line)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        if event.type == "ERROR":
            status = status_of(bytes(event.object))
            raise failure_of_status(status, status.code or 500, ask)
        key, version = identity(event.object)
        if event.type in ("ADDED", "MODIFIED"):
            self._take(key, event.object)
        elif event.type == "DELETED":
            self._unreadable.pop(key, None)
            self._set(key, None)
        elif event.type != "BOOKMARK":
            log.warning("watch.unknown_event", kind=self._kind.kind, type=event.type[:40])
        if version:
            self._version = version

    def _take(self, key: str, raw: msgspec.Raw) -> None:
        try:
            value = self._convert(raw)
        except Exception as error:  # see _read
            self._leave_out(key, error, self._unreadable)
            # An old value would be a lie by now: better known to be missing than believed.
            self._set(key, None)
        else:
            self._unreadable.pop(key, None)
            self._set(key, value)
