"""The simulated container runtime: what runs on the node, kept on disk because containers outlive a kubelet.

A container here is a line in a file plus, for every MIG device it holds, a process on that slice in the simulated
driver, so that destroying the slice is refused for as long as it "runs".
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

# Above Linux's largest process id (2^22), so that no real process is ever meant.
_FIRST_PROCESS_ID = 5_000_000


class SliceGone(Exception):
    """The MIG device that a container was given does not exist (any more)."""


class ProcessMarker(Protocol):
    """Puts processes on slices of the simulated driver. Both calls may block for milliseconds."""

    def mark(self, uuid: str, pid: int) -> None:
        """A process now uses the slice; raises SliceGone when there is no such slice."""
        ...

    def unmark(self, uuid: str, pid: int) -> None:
        """The process ended. The slice may be gone by now; that is no error."""
        ...


class RunningPod(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pod whose containers run."""

    uid: str
    namespace: str
    name: str
    containers: tuple[str, ...]
    started_at: float  # seconds since the epoch
    terminate_seconds: float
    processes: tuple[tuple[str, int], ...]  # (MIG UUID, process id)


class Runtime:
    """Starts and kills the containers of one node."""

    def __init__(self, path: Path, root: Path, marker: ProcessMarker) -> None:
        self._path = path
        self._root = root
        self._marker = marker
        self.running: dict[str, RunningPod] = {}
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=list[RunningPod])
        except (OSError, msgspec.MsgspecError):
            kept = []
        self.running.update({pod.uid: pod for pod in kept})
        used = [pid for pod in kept for _, pid in pod.processes]
        self._process_ids = itertools.count(max([_FIRST_PROCESS_ID, *used]) + 1)

    def containers(self) -> frozenset[tuple[str, str]]:
        """(pod UID, container) of everything that runs."""
        return frozenset((pod.uid, name) for pod in self.running.values() for name in pod.containers)

    def missing_path(self, paths: Iterable[str]) -> str | None:
        """The first host path that is not there, as containerd would find at CreateContainer; None if all are."""
        for path in paths:
            # A plugin that runs with a device root of its own already puts that root in front.
            under = Path(path) if path.startswith(f"{self._root}/") else self._root / path.lstrip("/")
            if not under.exists():
                return path
        return None

    async def start(
        self,
        pod: Mapping[str, str],
        containers: tuple[str, ...],
        slices: Iterable[str],
        started_at: float,
        terminate_seconds: float,
    ) -> None:
        """Start all containers, one process a slice. Raises SliceGone, and then nothing was started.

        `pod` has the keys uid, namespace and name.
        """
        processes: list[tuple[str, int]] = []
        try:
            for uuid in slices:
                process_id = next(self._process_ids)
                await asyncio.to_thread(self._marker.mark, uuid, process_id)
                processes.append((uuid, process_id))
        except SliceGone:
            await self._end(processes)
            raise
        self.running[pod["uid"]] = RunningPod(
            pod["uid"], pod["namespace"], pod["name"], containers, started_at, terminate_seconds, tuple(processes)
        )
        self._save()

    async def kill(self, uid: str) -> None:
        """End a pod's containers; nothing happens when there are none."""
        pod = self.running.pop(uid, None)
        if pod is not None:
            await self._end(pod.processes)
            self._save()

    async def _end(self, processes: Iterable[tuple[str, int]]) -> None:
        for uuid, process_id in processes:
            await asyncio.to_thread(self._marker.unmark, uuid, process_id)

    def _save(self) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.write_bytes(msgspec.json.encode(list(self.running.values())))
        fresh.rename(self._path)
