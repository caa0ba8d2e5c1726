"""Waiting for a node to come to the end of its way, with a word about each step of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cdmo.errors import ChangeStuck
from cdmo.handover.standing import Standing
from cdmo.runtime.clock import Clock

PAUSE = 1.0  # seconds between two looks
# What an agent says that it needs may be from before it heard of what it has been given since: it looks every 5 s.
BELIEVED_AFTER = 12.0

Tell = Callable[[str], None]


async def until_done(
    name: str,
    look: Callable[[], Awaitable[Standing]],
    *,
    clock: Clock,
    tell: Tell,
    limit: float,
    needs: str,
    late: str,
) -> None:
    """Return when a look finds the node done; each new sentence is told.

    Raises ChangeStuck when it needs somebody, or is not done after `limit` seconds; `needs` and `late` are what the
    hints end with in these cases.
    """
    began, told, needed_since = clock.monotonic(), "", 0.0
    while True:
        standing = await look()
        now = clock.monotonic()
        if standing.sentence != told:
            told = standing.sentence
            tell(f"{name}: {told}")
        if standing.done:
            return
        needed_since = (needed_since or now) if standing.needs else 0.0
        if needed_since and now - needed_since >= BELIEVED_AFTER:
            raise ChangeStuck(
                f"node {name} cannot go on by itself: {standing.sentence}", hint=f"{standing.needs}; {needs}"
            )
        if now - began >= limit:
            raise ChangeStuck(f"node {name} is not done after {limit:g} s: {standing.sentence}", hint=late)
        await clock.sleep(PAUSE)
