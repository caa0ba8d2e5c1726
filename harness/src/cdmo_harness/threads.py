"""Blocking calls from asynchronous code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")


async def to_the_end(call: Callable[[], _Result]) -> _Result:
    """Run a blocking call in a thread. Cancelled, it is waited for: what it started has to be known to be stopped."""
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await task
        raise
