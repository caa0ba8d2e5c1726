"""Running a process: one task group, ended by a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


async def run_until_signalled(
    tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]],
    *,
    finish: Callable[[], Coroutine[Any, Any, None]],
    finish_limit: float,
) -> None:
    """Run the named tasks until SIGTERM or SIGINT; then `finish`, for at most `finish_limit` seconds; then cancel.

    A task that ends or fails by itself ends the process: half a process is worse than a restart.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    running = {asyncio.create_task(start(), name=name) for name, start in tasks.items()}
    waiter = asyncio.create_task(signalled.wait(), name="signal")
    try:
        await asyncio.wait({*running, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if signalled.is_set():
            async with asyncio.timeout(finish_limit):
                await finish()
    except TimeoutError:
        pass
    finally:
        ended = [each for each in running if each.done() and not each.cancelled()]
        for each in (*running, waiter):
            each.cancel()
        await asyncio.gather(*running, waiter, return_exceptions=True)
    for each in ended:
        failure = each.exception()
        if failure is not None:
            raise failure
