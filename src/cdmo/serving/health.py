"""Liveness and readiness as named checks.

Alive: the process can still get on by itself; a restart would only lose time. What others do, an API server that is
away or a driver that hangs, is no reason to restart. Ready: it can do its work now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Says what is wrong in one sentence, or nothing.
Check = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Health:
    """The checks of a process, by name. That the event loop turns is checked by answering at all."""

    live: Mapping[str, Check]
    ready: Mapping[str, Check]


def answers(checks: Mapping[str, Check]) -> dict[str, str]:
    """What each check says now."""
    return {name: check() for name, check in checks.items()}


def watched(kind: str, synced: Callable[[], bool]) -> tuple[str, Check]:
    """A check that a watch has seen everything and is not broken."""
    return f"watch {kind}", lambda: "" if synced() else "not synced with the API server"
