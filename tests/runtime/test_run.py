"""How a process runs and ends."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from cdmo.errors import ClusterUnavailable
from cdmo.runtime.run import run_until_signalled


async def for_ever() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_finish_end_before_the_tasks_are_cancelled(number: int) -> None:
    order: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await for_ever()
        finally:
            order.append("cancelled")

    async def finish() -> None:
        await asyncio.sleep(0)
        order.append("finished")

    await run_until_signalled({"work": work}, finish=finish, finish_limit=10.0)
    assert order == ["finished", "cancelled"]


async def test_finish_may_wait_for_what_a_task_still_does() -> None:
    stop, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        done.set()

    async def finish() -> None:
        stop.set()
        await done.wait()

    await asyncio.wait_for(run_until_signalled({"work": work}, finish=finish, finish_limit=10.0), 5.0)
    assert done.is_set()


async def test_a_finish_without_end_is_cut_off_at_its_limit() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await for_ever()
        finally:
            cancelled.set()

    await asyncio.wait_for(run_until_signalled({"work": work}, finish=for_ever, finish_limit=0.01), 5.0)
    assert cancelled.is_set()


async def test_a_task_that_fails_ends_the_process_with_its_failure_and_no_finish() -> None:
    finished = asyncio.Event()

    async def failing() -> None:
        raise ClusterUnavailable("no answer")

    async def finish() -> None:
        finished.set()

    with pytest.raises(ClusterUnavailable, match="no answer"):
        await run_until_signalled({"bad": failing, "good": for_ever}, finish=finish, finish_limit=1.0)
    assert not finished.is_set()


async def test_a_task_that_ends_by_itself_ends_the_process() -> None:
    cancelled = asyncio.Event()

    async def other() -> None:
        try:
            await for_ever()
        finally:
            cancelled.set()

    async def short() -> None:
        await asyncio.sleep(0)

    await asyncio.wait_for(run_until_signalled({"a": short, "b": other}, finish=nothing, finish_limit=1.0), 5.0)
    assert cancelled.is_set()


async def test_tasks_bear_the_names_they_are_given() -> None:
    names: list[str] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())

    await run_until_signalled({"watch pods": work}, finish=nothing, finish_limit=1.0)
    assert names == ["watch pods"]
