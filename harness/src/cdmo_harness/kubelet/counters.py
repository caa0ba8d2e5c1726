"""Counts of what happened to this node's pods, kept in a file for tests and the demo to read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec


class Counts(msgspec.Struct):
    """The file's content. All fields count pods, since the node was first started."""

    admitted: int = 0
    started: int = 0
    completed: int = 0  # ran to their own end
    killed: int = 0  # deleted while running
    admitted_without_device: int = 0  # asked for an extended resource no plugin had registered: the silent failure
    started_on_dead_device: int = 0  # were given a slice that no longer existed
    waited_for_device_node: int = 0  # a device node was missing at least once
    admission_failures: dict[str, int] = {}  # by the message of the pod's status


class Counters:
    """Counts in memory and, after every change, on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._counts = msgspec.json.decode(path.read_bytes(), type=Counts)
        except (OSError, msgspec.MsgspecError):
            self._counts = Counts()

    def add(self, name: str) -> None:
        """One more of a numeric field."""
        setattr(self._counts, name, getattr(self._counts, name) + 1)
        self._save()

    def admission_failed(self, message: str) -> None:
        """One more pod refused with this message."""
        failures = Counter(self._counts.admission_failures)
        failures[message] += 1
        self._counts.admission_failures = dict(failures)
        self._save()

    def _save(self) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.write_bytes(msgspec.json.encode(self._counts))
        fresh.rename(self._path)


def read(path: Path) -> Counts:
    """The counts in a file; all zero when it does not exist (yet)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counts)
    except FileNotFoundError:
        return Counts()
