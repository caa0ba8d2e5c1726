"""Traces for people."""

from __future__ import annotations

import sys
from itertools import groupby


def numbered(trace: tuple[str, ...]) -> str:
    """A trace to read; what happens twice in a row is told once."""
    told = [(text, len(list(times))) for text, times in groupby(trace)]
    return "\n".join(
        f"{number:3}. {text}" + (f" ({times} times)" if times > 1 else "")
        for number, (text, times) in enumerate(told, 1)
    )


def tell(text: str) -> None:
    """Print it where pytest keeps what a test has to say (`-rP` shows it)."""
    sys.stdout.write(f"{text}\n")
