"""The knobs of planning."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds without heartbeat after which an agent counts as gone; it beats every 10.
AGENT_SILENT_AFTER = 45.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How to plan.

    scheduler_names: pods of other schedulers are left alone: CDMO cannot know how those judge nodes.
    reserve_after: seconds after which a window is kept for the oldest pod that still finds no room.
    """

    scheduler_names: frozenset[str] = frozenset({"default-scheduler"})
    reserve_after: float = 300.0
