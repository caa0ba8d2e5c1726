"""What a person sees while programs are built: minutes without a sign of life look like a hang."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

# Seconds between two lines where no bar can be drawn (a CI log).
_LINE_INTERVAL = 20.0


class BuildProgress(Protocol):
    """Hears how a build goes on."""

    def step(self, title: str) -> None:
        """Something begins whose length is not known: a download, waiting for another build."""

    def compiling(self, title: str, packages: int) -> None:
        """A compilation of at most this many packages begins (those in Go's cache are not compiled)."""

    def compiled(self, package: str) -> None:
        """One package is done."""


@contextmanager
def show_progress(console: Console) -> Iterator[BuildProgress]:
    """Progress on this console: a moving bar on a terminal, a line now and then elsewhere.

    The console should write to stderr; stdout is for data.
    """
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[package]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bar(bars)


class _Bar:
    """One bar; a new step replaces the one before."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("looking for programs", total=None, package="")

    def step(self, title: str) -> None:
        self._begin(title, None)

    def compiling(self, title: str, packages: int) -> None:
        self._begin(title, packages)

    def compiled(self, package: str) -> None:
        self._bars.update(self._task, advance=1, package=escape(package))

    def _begin(self, title: str, total: int | None) -> None:
        self._bars.remove_task(self._task)
        self._task = self._bars.add_task(escape(title), total=total, package="")


class _Lines:
    """A line at the beginning of each step, and while it goes on one every so many seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._total = 0
        self._done = 0
        self._began = self._spoke = time.monotonic()

    def step(self, title: str) -> None:
        self._title = title
        self._done = self._total = 0
        self._began = self._spoke = time.monotonic()
        self._console.print(title, markup=False, highlight=False, soft_wrap=True)

    def compiling(self, title: str, packages: int) -> None:
        self.step(title)
        self._total = packages

    def compiled(self, package: str) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._spoke >= _LINE_INTERVAL:
            self._spoke = now
            line = f"{self._title}: {self._done} of at most {self._total} packages, {now - self._began:.0f} s"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
