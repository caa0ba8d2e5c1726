"""An XID in the kernel's log wakes the rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cdmo.agent.xid_bell import XidBell
from cdmo.hardware.kernel_log import KernelLog
from cdmo.runtime.clock import SystemClock


class Turns(SystemClock):
    """Does something in the first pause; no pause takes any time."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._first: Callable[[], None] | None = first

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        first, self._first = self._first, None
        if first is not None:
            first()
        await asyncio.sleep(0)


async def test_an_xid_wakes_the_rounds_and_other_lines_do_not(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("6,0,1,-;usb 1-1: new device\n")
    woken = asyncio.Event()
    log = KernelLog(path)

    def then() -> None:
        assert (log.newest, woken.is_set()) == (0, False)
        with path.open("a") as file:
            file.write("4,1,2,-;NVRM: Xid (PCI:0000:10:00): 79, fell\n")

    bell = asyncio.create_task(XidBell(log, woken.set, Turns(then)).run())
    await asyncio.wait_for(woken.wait(), 5)
    bell.cancel()
    await asyncio.wait([bell])
    log.close()
