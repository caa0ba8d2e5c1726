"""Carrying out a schedule of faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog

from cdmo_harness.chaos.schedule import FaultKind, Planned
from cdmo_harness.chaos.stage import Stage
from cdmo_harness.chaos.summary import FaultRow
from cdmo_harness.errors import HarnessError

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Row:
    count: int = 0
    seconds: float = 0.0
    failed: int = 0


@dataclass(slots=True)
class Faults:
    """The faults of a run: what was planned, what goes on just now, what has been."""

    stage: Stage
    planned: Sequence[Planned]
    kinds: Sequence[FaultKind]
    seconds: float  # of the run; no fault begins later
    now: list[Planned] = field(default_factory=list)
    begun: int = 0
    news: list[str] = field(default_factory=list)  # a line for each fault that began
    _rows: dict[str, _Row] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def run(self) -> None:
        """Begin and end all of them; returns when the last has ended. Cancelled, it ends those that go on."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for each in self.planned:
                group.create_task(self._carry_out(each, began), name=each.kind)

    def rows(self) -> tuple[FaultRow, ...]:
        """What has been, by kind."""
        return tuple(
            FaultRow(kind, row.count, round(row.seconds, 1), row.failed) for kind, row in sorted(self._rows.items())
        )

    async def _carry_out(self, fault: Planned, began: float) -> None:
        await asyncio.sleep(fault.begins - (time.monotonic() - began))
        kind = next(each for each in self.kinds if each.name == fault.kind)
        async with AsyncExitStack() as stack:
            # The schedule keeps faults of one process apart, but some take longer than planned.
            for claim in sorted(kind.claimed(fault.target)):
                await stack.enter_async_context(self._locks.setdefault(claim, asyncio.Lock()))
            if time.monotonic() - began < self.seconds:
                await self._inflict(fault, kind)

    async def _inflict(self, fault: Planned, kind: FaultKind) -> None:
        row = self._rows.setdefault(fault.kind, _Row())
        row.count += 1
        self.begun += 1
        self.news.append(f"{fault.kind}: {fault.target}, {fault.lasts:.1f} s")
        self.now.append(fault)
        began = time.monotonic()
        try:
            async with kind.act(self.stage, fault):
                await asyncio.sleep(fault.lasts)
        except HarnessError as error:
            # The harness could not do what it wanted, for instance because another fault stands in its way.
            row.failed += 1
            _log.warning("fault not possible", fault=fault.kind, target=fault.target, error=str(error)[:400])
        finally:
            self.now.remove(fault)
            row.seconds += time.monotonic() - began
