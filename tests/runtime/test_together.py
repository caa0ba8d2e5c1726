"""Two things at once."""

from __future__ import annotations

import asyncio

import pytest

from cdmo.runtime.together import together


async def returning(value: str) -> str:
    await asyncio.sleep(0)
    return value


class Waiting:
    """Something that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # tidying up takes a turn of the loop
            self.ended = True


async def failing(after: asyncio.Event) -> None:
    await after.wait()
    raise ValueError("no")


async def test_both_are_returned_in_their_order() -> None:
    assert await together(returning("one"), returning("two")) == ("one", "two")


@pytest.mark.parametrize("first", [True, False])
async def test_a_failure_of_either_is_raised_when_the_other_has_ended(first: bool) -> None:
    waiting = Waiting()
    fails, waits = failing(waiting.began), waiting.run()
    with pytest.raises(ValueError, match="no"):
        await (together(fails, waits) if first else together(waits, fails))
    assert waiting.ended


async def test_who_is_cancelled_leaves_neither_behind() -> None:
    one, two = Waiting(), Waiting()
    task = asyncio.create_task(together(one.run(), two.run()))
    await asyncio.gather(one.began.wait(), two.began.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.ended
    assert two.ended
