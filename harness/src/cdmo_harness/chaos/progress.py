"""What a person sees while chaos goes on: a line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

_DRAW_SECONDS = 0.25
_LINE_SECONDS = 10.0


class Progress:
    """Lines on a console that is not stdout."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """One line, as it is, with the seconds since the start in front."""
        text = f"{time.monotonic() - self._began:5.0f} s  {line}"
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    @asynccontextmanager
    async def shown(self, look: Callable[[], str], news: list[str]) -> AsyncIterator[None]:
        """Inside the block `look()` is shown as it changes; what comes into `news` is said once."""
        status = None
        if self._console.is_terminal:
            status = Status(Text(look()), console=self._console)
            status.start()
        task = asyncio.create_task(self._keep_showing(look, news, status))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if status is not None:
                status.stop()
            self.say(look())

    async def _keep_showing(self, look: Callable[[], str], news: list[str], status: Status | None) -> None:
        said, told = time.monotonic(), 0
        while True:
            await asyncio.sleep(_DRAW_SECONDS)
            for line in news[told:]:
                self.say(line)
            told = len(news)
            if status is not None:
                status.update(Text(look()))
            elif time.monotonic() - said >= _LINE_SECONDS:
                said = time.monotonic()
                self.say(look())
