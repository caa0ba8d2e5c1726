"""`python -m cdmo_harness.api_proxy SETTINGS`: the proxy's process. SETTINGS is a JSON file (control.Settings)."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from cdmo_harness.api_proxy.control import Settings
from cdmo_harness.api_proxy.server import Proxy


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    task = asyncio.create_task(Proxy(settings).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def main() -> None:
    """Entry point."""
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Settings)
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
