"""One way to serve a queue, while it is being tried."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdmo.planner.ledger import NodeState
from cdmo.planner.seek import Picks
from cdmo.planner.window import KeptWindow


@dataclass(slots=True)
class Attempt:
    """One way to serve the queue. Pods are positions in it."""

    given: dict[int, tuple[NodeState, Picks]] = field(default_factory=dict)  # in the order of placing
    refused: list[int] = field(default_factory=list)
    window: tuple[int, KeptWindow] | None = None  # kept for which pod
    before_window: int = 0  # how many were placed before the window was kept
    packed: bool = False  # those ahead were placed the largest first
    dead: set[int] = field(default_factory=set)  # sorts of pods for which there is no place left
