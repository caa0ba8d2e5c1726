"""CDMO's processes as a cluster keeps them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cdmo_harness.chaos.stage import until
from cdmo_harness.chaos.supervisor import Supervisor
from cdmo_harness.processes import ManagedProcess

LIMIT = 15.0
FOREVER = "import time; time.sleep(600)"


@asynccontextmanager
async def kept(folder: Path, code: str = FOREVER) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    starts: list[str] = []
    supervisor = Supervisor(starts.append)
    task = asyncio.create_task(supervisor.run())
    try:
        await supervisor.add(
            "one", lambda: ManagedProcess("one", [sys.executable, "-c", code], folder=folder, environment={})
        )
        yield supervisor, starts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await supervisor.stop()


def pid_of(supervisor: Supervisor) -> int | None:
    process = supervisor.roles["one"].process
    return None if process is None else process.pid


async def test_a_process_that_ends_is_started_again_and_counted(tmp_path: Path) -> None:
    async with kept(tmp_path) as (supervisor, starts):
        before = pid_of(supervisor)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        assert await until(lambda: pid_of(supervisor) not in (None, before), limit=LIMIT)
        assert supervisor.roles["one"].ends == {-signal.SIGKILL: 1}
        assert starts == ["one"], "the first start is nobody's return"


async def test_what_a_process_said_before_it_ended_by_itself_is_kept(tmp_path: Path) -> None:
    code = "import time; time.sleep(0.2); print('error: no host'); print('hint: mount it'); raise SystemExit(1)"
    async with kept(tmp_path, code) as (supervisor, starts):
        assert await until(lambda: bool(starts), limit=LIMIT)
        assert supervisor.roles["one"].ends.keys() == {1}
        assert supervisor.roles["one"].last_words.keys() == {"error: no host"}


async def test_a_process_that_was_killed_stays_down_until_it_is_brought_back(tmp_path: Path) -> None:
    async with kept(tmp_path) as (supervisor, _):
        await supervisor.kill("one")
        assert not await until(lambda: pid_of(supervisor) is not None, limit=1.5)
        await supervisor.bring_back("one")
        assert pid_of(supervisor) is not None
        assert not supervisor.roles["one"].ends


async def test_bringing_back_what_runs_changes_nothing(tmp_path: Path) -> None:
    async with kept(tmp_path) as (supervisor, _):
        before = pid_of(supervisor)
        await supervisor.bring_back("one")
        assert pid_of(supervisor) == before


async def test_nothing_runs_on_after_the_end(tmp_path: Path) -> None:
    async with kept(tmp_path) as (supervisor, _):
        pid = pid_of(supervisor)
        supervisor.pause("one")
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
