"""What must never happen, judged without asking CDMO: by the driver's library, the kubelets and the API server.

Some pods are lost whatever CDMO does, and are counted apart:

- A reboot takes the slices away. The kubelet admits the node's pods anew before anybody can have cut slices again,
  and the scheduler goes on binding pods to what the Node still offers until the kubelet reports the new boot.
- When the kubelet restarts, or its device plugin goes, all devices count as unhealthy until the plugin registers
  again, while the Node offers them until the next report. A pod bound in between is refused by the kubelet's device
  manager, on a cluster without CDMO as well.
- When the API server or etcd is killed, a bind may be stored whose answer is lost. The scheduler takes that pod for
  unbound and binds another one to the same slice before it hears better. Such a pod is excused only where the driver
  has destroyed no slice of the node since: what CDMO took away is never excused.

So a refused pod is excused when it was bound to, or refused on, a node inside such a window, and only with the device
manager's words for that. A pod given a slice that does not exist, or none at all, never is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cdmo_harness.chaos.load import Ending
from cdmo_harness.chaos.stage import Stage, Window
from cdmo_harness.driver import GpuSnapshot
from cdmo_harness.kubelet.runtime import RunningPod

_LOOK_SECONDS = 0.5
# A pod may have been bound a moment before a window opens and be admitted in it; the plugin takes a moment to come
# back after it closes, and a refusal is written late while the API server is away. Seconds.
_BEFORE = 1.5
_AFTER = 4.0
# For which kube-scheduler may go on by what it knew before an API server was killed: its watch of pods has been seen
# to come back 31 s after it. Seconds.
_AFTER_LOST_ANSWERS = 60.0
_TOO_FEW = "requested number of devices unavailable"
# What the device manager says of devices that are unhealthy or of a plugin that is not there (manager.go).
_UNHEALTHY = (
    "no healthy devices present",
    "previously allocated devices are no longer healthy",
    "cannot allocate unregistered device",
    "has been stopped",
    _TOO_FEW,
    "rpc failed",
    "rpc error",
    "unknown Device Plugin",
    "endpoint not found",
)


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not happen did."""

    what: str
    details: str


def excuse(ending: Ending, windows: Iterable[Window]) -> str:
    """The kind of fault that a refused pod was lost to, or nothing."""
    if not any(words in ending.message for words in _UNHEALTHY):
        return ""
    for window in windows:
        if window.node != ending.node or not _could_take(window, ending):
            continue
        opens, closes = window.began - _BEFORE, (window.ended or float("inf")) + _lasts_on(window)
        moments = (ending.ended_at, *(() if ending.bound_at is None else (ending.bound_at,)))
        if any(opens <= moment <= closes for moment in moments):
            return window.kind
    return ""


def _lasts_on(window: Window) -> float:
    return _AFTER if window.destroyed is None else _AFTER_LOST_ANSWERS


def _could_take(window: Window, ending: Ending) -> bool:
    if window.destroyed is None:
        return True
    return _TOO_FEW in ending.message and window.destroyed == ending.destroyed


def missing_devices(running: Iterable[RunningPod], gpus: Iterable[GpuSnapshot]) -> dict[str, str]:
    """Pods whose containers run on a slice that is gone, or that came back without them: name -> slice."""
    processes = {each.uuid: each.processes for gpu in gpus for each in gpu.slices if each.uuid}
    return {
        f"{pod.namespace}/{pod.name}": uuid
        for pod in running
        for uuid, _ in pod.processes
        if processes.get(uuid, 0) == 0
    }


class SliceWatch:
    """Compares what runs on each node with the slices there are, all the time."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.found: dict[tuple[str, str], Violation] = {}
        self.looks = 0

    async def run(self) -> None:
        """Until cancelled."""
        suspects: dict[tuple[str, str], str] = {}
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now: dict[tuple[str, str], str] = {}
            for name in self._stage.nodes:
                for pod, uuid in (await self._look(name)).items():
                    now[name, pod] = uuid
            self.looks += 1
            # A pod that ends is unmarked in the driver a moment before its line in the kubelet's file goes, so
            # only what is missing at two looks is missing.
            for key, uuid in now.items():
                if suspects.get(key) == uuid:
                    node, pod = key
                    self.found.setdefault(key, Violation("slice destroyed under a pod", f"{pod} on {node}: {uuid}"))
            suspects = now

    async def _look(self, name: str) -> dict[str, str]:
        stage, node = self._stage, self._stage.node(name)
        if name in stage.rebooting or stage.node_locks[name].locked():
            # Somebody stops its kubelet, or has paused it: its file may be behind.
            return {}
        before = await asyncio.to_thread(_running, node.folder / "kubelet-runtime.json")
        gpus = await asyncio.to_thread(node.driver.snapshot)
        if name in stage.rebooting or stage.node_locks[name].locked():
            return {}
        return missing_devices(before, gpus)


def harm(stage: Stage) -> list[Violation]:
    """What the driver's library and the kubelets counted that must be 0. Blocks for moments."""
    found = []
    for name, node in stage.cluster.nodes.items():
        counts = node.counters()
        for what, count in (
            ("pod admitted without a device", counts.admitted_without_device),
            ("pod started on a dead slice", counts.started_on_dead_device),
            ("destroy of a slice in use", node.driver.counters().destroyed_in_use_attempts),
        ):
            if count:
                found.append(Violation(what, f"{count} times on {name}"))
    return found


def refused(failures: Iterable[Ending], windows: Iterable[Window]) -> tuple[list[Violation], dict[str, int]]:
    """Pods that failed: those that CDMO has to answer for, and the others counted by the fault that took them."""
    violations, excused = [], dict[str, int]()
    known = tuple(windows)
    for each in failures:
        if each.phase == "Failed" and each.deleted and not each.reason:
            continue  # admitted, and killed because a user wanted it; its object shows that for a moment
        kind = excuse(each, known)
        if kind:
            excused[kind] = excused.get(kind, 0) + 1
            continue
        moment = f"{time.monotonic() - each.ended_at:.0f} s ago"
        what = "pod's object went away"
        if each.phase == "Failed":
            what = "pod failed by admission" if each.reason else "pod died"
        violations.append(
            Violation(what, f"{each.key} on {each.node or '-'}, {moment}: {each.reason} {each.message}")
        )
    return violations, excused


def _running(path: Path) -> list[RunningPod]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[RunningPod])
    except FileNotFoundError:
        return []
