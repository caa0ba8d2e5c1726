"""What a person sees of the way to a running cluster: a line for each step, with its seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from rich.console import Console
from rich.markup import escape
from rich.status import Status

_LOG_FORM = structlog.processors.KeyValueRenderer(key_order=["level", "event"])


class ConsoleLogger:
    """A structlog logger whose lines go above whatever moves on the console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def msg(self, message: str) -> None:
        """One line."""
        self._console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)

    debug = info = warning = error = critical = msg


def configure_logging(console: Console, level: str) -> None:
    """The harness' own log lines of this level and above, on this console."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, _LOG_FORM],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: ConsoleLogger(console),
    )


class Steps:
    """Lines on a console that is not stdout. On a terminal a spinner shows what goes on; hears of builds as well."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def doing(self, title: str) -> Iterator[None]:
        """A step that takes the time of the block; one that fails leaves no line."""
        began = time.monotonic()
        if self.console.is_terminal:
            with Status(escape(title), console=self.console):
                yield
        else:
            yield
        self.say(f"{time.monotonic() - began:5.1f} s  {title}")

    def say(self, line: str) -> None:
        """One line, as it is. A line longer than the console goes on in the next one."""
        self.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    # The reports of an installation that goes on beside the steps (BuildProgress).

    def step(self, title: str) -> None:
        """Something of unknown length begins."""
        self.say(f"         {title}")

    def compiling(self, title: str, packages: int) -> None:
        """A compilation begins."""
        self.step(f"{title} ({packages} packages)")

    def compiled(self, package: str) -> None:
        """One package is done: too small for a line."""
