"""Wakes the rounds as soon as the kernel's log shows an XID.

The device plugin takes the slice out of use at once, and until the Node's counts follow the scheduler may bind a pod
that the kubelet then has to fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from cdmo.hardware.kernel_log import KernelLog
from cdmo.runtime.clock import Clock


class XidBell:
    """Looks into a log of its own; what an XID means is judged in the round. `pause`: seconds between two looks."""

    def __init__(self, log: KernelLog, wake: Callable[[], None], clock: Clock, pause: float = 0.25) -> None:
        self._log = log
        self._wake = wake
        self._clock = clock
        self._pause = pause

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            if self._log.read():
                self._wake()
            await self._clock.sleep(self._pause)
