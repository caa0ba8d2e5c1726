"""CDMO's processes as a cluster keeps them: started again when they end, and a note of how they did.

A fault takes a process down on purpose and brings it back; whatever ends by itself is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cdmo_harness.processes import ManagedProcess
from cdmo_harness.threads import to_the_end

_LOOK_SECONDS = 0.3
# As the kubelet's first pauses, but never longer: a run of minutes has no time for five of them.
_BACK_OFF = (1.0, 2.0, 5.0)
_SETTLED_SECONDS = 10.0  # a process has its working size, and counts as well again, after this time
_SAMPLE_SECONDS = 5.0
_LAST_LINES = 10  # in which a process that gives up has said why
_LONGEST_WORDS = 300


@dataclass(slots=True, eq=False)
class Role:
    """One process of CDMO, whichever process that is just now."""

    name: str
    start: Callable[[], ManagedProcess]
    process: ManagedProcess | None = None
    wanted: bool = True  # False while a fault keeps it down
    started_at: float = 0.0
    ends: Counter[int] = field(default_factory=Counter)  # exit status -> times it ended by itself
    last_words: Counter[str] = field(default_factory=Counter)  # what it said when it did -> times
    crashes: int = 0  # in a row
    first_bytes: int = 0  # resident memory when it first had settled
    last_bytes: int = 0
    most_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Supervisor:
    """Keeps roles running. `on_start` hears of each start but the first."""

    def __init__(self, on_start: Callable[[str], None]) -> None:
        self.roles: dict[str, Role] = {}
        self._on_start = on_start
        self._sampled_at = 0.0

    async def add(self, name: str, start: Callable[[], ManagedProcess]) -> None:
        """One more process, started at once."""
        role = self.roles[name] = Role(name, start)
        async with role.lock:
            await self._start(role)

    async def kill(self, name: str) -> None:
        """SIGKILL; it stays down until `bring_back`."""
        role = self.roles[name]
        role.wanted = False
        async with role.lock:
            await self._stop(role)

    async def bring_back(self, name: str) -> None:
        """Start it again after `kill`."""
        role = self.roles[name]
        role.wanted = True
        async with role.lock:
            if role.process is None:
                await self._again(role)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        process = self.roles[name].process
        if process is not None:
            process.pause()

    def resume(self, name: str) -> None:
        """SIGCONT; harmless when it runs."""
        process = self.roles[name].process
        if process is not None:
            process.resume()

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            await asyncio.gather(*map(self._look, tuple(self.roles.values())))
            self._sample()
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        """End all of them."""
        for role in self.roles.values():
            role.wanted = False
            async with role.lock:
                if role.process is not None:
                    await asyncio.to_thread(role.process.stop, grace=2.0)
                    role.process = None

    async def _look(self, role: Role) -> None:
        process = role.process
        if process is None or not role.wanted or process.running:
            return
        status = process.exit_status or 0
        role.ends[status] += 1
        lived = time.monotonic() - role.started_at
        role.crashes = 0 if lived > _SETTLED_SECONDS else role.crashes + 1
        role.last_words[_last_words(process.tail(_LAST_LINES))] += 1
        await asyncio.sleep(_BACK_OFF[min(role.crashes, len(_BACK_OFF) - 1)])
        async with role.lock:
            if role.process is process:
                await self._stop(role)
            if role.process is None and role.wanted:
                await self._again(role)

    async def _again(self, role: Role) -> None:
        self._on_start(role.name)
        await self._start(role)

    async def _start(self, role: Role) -> None:
        def start() -> None:
            role.process = role.start()

        await to_the_end(start)
        role.started_at = time.monotonic()

    async def _stop(self, role: Role) -> None:
        process, role.process = role.process, None
        if process is not None:
            await to_the_end(lambda: process.stop(grace=0))

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled_at < _SAMPLE_SECONDS:
            return
        self._sampled_at = now
        for role in self.roles.values():
            if role.process is not None and now - role.started_at >= _SETTLED_SECONDS:
                role.last_bytes = role.process.resident_bytes() or role.last_bytes
                role.first_bytes = role.first_bytes or role.last_bytes
                role.most_bytes = max(role.most_bytes, role.last_bytes)


def _last_words(lines: str) -> str:
    said = [line for line in lines.splitlines() if line.strip()]
    told = [line for line in said if line.startswith("error: ")] or said or ["nothing"]
    return told[-1][:_LONGEST_WORDS]
