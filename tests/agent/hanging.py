"""A driver in memory of which a test lets one call hang."""

from __future__ import annotations

import asyncio
import threading

from tests.agent.nodes import Rig

LIMIT = 10.0  # seconds, for whatever must come at all


class Hanging:
    """Calls of this name hang until `release`; what they do they do afterwards, as a driver does."""

    def __init__(self, rig: Rig, call: str, *, times: int = 1) -> None:
        self.rig = rig
        self.hung = threading.Event()
        self._left = times
        self._gate = threading.Event()
        rig.gpus.on_call = self._called
        self._call = call

    def _called(self, call: str) -> None:
        if call == self._call and self._left:
            self._left -= 1
            self.hung.set()
            self._gate.wait(LIMIT)

    async def release(self) -> None:
        """The call goes on; return once it came back to the worker."""
        before = len(self.rig.late)
        self._gate.set()
        async with asyncio.timeout(LIMIT):
            while True not in self.rig.late[before:]:  # noqa: ASYNC110  (what is waited for is in a thread)
                await asyncio.sleep(0)

    def end(self) -> None:
        """Let a thread go that nobody waits for any more."""
        self._gate.set()
