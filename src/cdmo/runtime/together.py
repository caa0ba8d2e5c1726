"""Doing two things at once, of which neither is left behind when the other fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


async def together(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Run both at once, begun in this order, and return what they return. The first failure is raised as it is, after
    the other one was cancelled and has ended (`asyncio.gather` would let it go on)."""
    tasks = asyncio.create_task(first), asyncio.create_task(second)
    try:
        one, two = await asyncio.gather(*tasks)
        return one, two
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
