"""Pauses between two looks at something that nobody tells of."""

from __future__ import annotations

from collections.abc import Iterator


def growing(first: float, factor: float, longest: float) -> Iterator[float]:
    """Pauses in seconds without end, each `factor` times the one before, up to `longest`: dense at first, when what
    is waited for usually comes, and rare when it takes long."""
    pause = first
    while True:
        yield pause
        pause = min(pause * factor, longest)
