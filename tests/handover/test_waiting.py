"""Waiting for a node to come to the end of its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from cdmo.errors import ChangeStuck
from cdmo.handover.standing import Standing
from cdmo.handover.waiting import until_done
from tests.fakes.clock import HastyClock

SWITCHES, DONE = Standing("1 of 2"), Standing("2 of 2", done=True)
NEEDS = Standing("0 of 2", needs="reboot the node")


class Node:
    """Stands as it is told, and at the end for ever as it stood last."""

    def __init__(self, *standings: Standing) -> None:
        self._standings: Iterator[Standing] = iter(standings)
        self._last = standings[-1]
        self.said: list[str] = []

    async def look(self) -> Standing:
        return next(self._standings, self._last)

    async def wait(self, limit: float = 60.0) -> None:
        await until_done(
            "n", self.look, clock=HastyClock(), tell=self.said.append, limit=limit, needs="again", late="later"
        )


def times(standing: Standing, count: int) -> Iterable[Standing]:
    return (standing for _ in range(count))


async def test_each_new_sentence_is_told_once() -> None:
    node = Node(*times(SWITCHES, 3), DONE)
    await node.wait()
    assert node.said == ["n: 1 of 2", "n: 2 of 2"]


async def test_a_need_that_is_from_before_the_agent_heard_is_not_believed() -> None:
    node = Node(*times(NEEDS, 5), SWITCHES, *times(NEEDS, 5), DONE)
    await node.wait()
    assert node.said[-1] == "n: 2 of 2"


async def test_a_need_that_lasts_ends_the_wait() -> None:
    with pytest.raises(ChangeStuck, match="node n cannot go on by itself: 0 of 2") as told:
        await Node(NEEDS).wait()
    assert told.value.hint == "reboot the node; again"


async def test_the_time_ends_it_too() -> None:
    with pytest.raises(ChangeStuck, match="node n is not done after 5 s: 1 of 2") as told:
        await Node(SWITCHES).wait(limit=5.0)
    assert told.value.hint == "later"
