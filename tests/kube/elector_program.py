"""A candidate as a process of its own, to be paused from outside: `python -m tests.kube.elector_program …`.

It writes a line for each look at itself: when it was, before and after the question, and whether it leads.
Seconds of CLOCK_BOOTTIME, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from cdmo.kube.connect import ConnectSettings, connect
from cdmo.kube.lease import LeaseElector, LeaseTimes
from cdmo.runtime.clock import SystemClock

LOOK_S = 0.005


async def main(kubeconfig: Path, lease: str, identity: str, times: LeaseTimes, looks: Path) -> None:
    """Take part until killed."""
    async with connect(ConnectSettings(kubeconfig=kubeconfig), {}) as connection:
        elector = LeaseElector(
            connection, "default", lease, identity, clock=SystemClock(), random=random.random, times=times
        )
        task = asyncio.create_task(elector.run())
        with looks.open("w", buffering=1) as file:
            while not task.done():
                before = time.clock_gettime(time.CLOCK_BOOTTIME)
                leads = elector.is_leader()
                after = time.clock_gettime(time.CLOCK_BOOTTIME)
                file.write(f"{before:.6f} {after:.6f} {int(leads)}\n")
                await asyncio.sleep(LOOK_S)
        await task


if __name__ == "__main__":
    config, name, who, lease_s, renew_s, retry_s, call_s, file = sys.argv[1:]
    asyncio.run(
        main(
            Path(config),
            name,
            who,
            LeaseTimes(float(lease_s), float(renew_s), float(retry_s), float(call_s)),
            Path(file),
        )
    )
