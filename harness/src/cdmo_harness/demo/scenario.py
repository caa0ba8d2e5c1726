"""Submit the waves one after the other, wait for what must come of each, and keep what was seen as evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cdmo.api.v1alpha1 import MigNode
from cdmo.model.gpu import DeviceState
from cdmo_harness.clearml.errors import SubmissionRefused
from cdmo_harness.clearml.glue import Submission
from cdmo_harness.demo.evidence import BusySlice, Evidence, PodOutcome, WaveEvidence
from cdmo_harness.demo.stage import Stage, check_processes
from cdmo_harness.demo.waves import FIRST, PLAIN_NAMESPACE, RECUT, WHOLE_GPUS, Task, Wave
from cdmo_harness.observer import PodSight, pod_manifest
from cdmo_harness.threads import to_the_end

# Seconds. A pod needs about half of one; a machine with other work may take much longer.
_RUNNING_LIMIT = 60.0
_FINISHED_LIMIT = 60.0
_REPORT_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """A task on its way."""

    task: Task
    existing: frozenset[str]  # UUIDs of the slices that were there before it

    def outcome(self, sight: PodSight | None) -> PodOutcome:
        """What became of it so far; None: it was not seen yet."""
        if sight is None:
            return PodOutcome(self.task.pod, self.task.queue, self.task.resource)
        device = sight.devices[0] if sight.devices else ""
        return PodOutcome(
            name=self.task.pod,
            queue=self.task.queue,
            resource=self.task.resource,
            phase=sight.phase,
            message=sight.message or sight.reason,
            node=sight.info.node_name,
            device=device,
            seconds=sight.created_to_running,
            reused=device in self.existing,
        )


@dataclass(frozen=True, slots=True)
class _Hardware:
    """All drivers at one moment."""

    uuids: frozenset[str]
    busy: frozenset[BusySlice]
    changes: dict[str, int]  # by node: GPU instances created and destroyed so far


class Scenario:
    """The demo's course of events."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._view = stage.view
        self.titles: list[str] = []  # of what was begun so far
        self.submitted: list[Submitted] = []
        self._waves: list[tuple[Wave, _Hardware, _Hardware]] = []

    async def run(self) -> Evidence:
        """All waves. Raises NotReadyInTime when a pod does not come to run."""
        await self._wave(FIRST)
        await self._finish(FIRST)
        await self._wave(WHOLE_GPUS)
        await self._wave(RECUT)
        await self._wait("every MigNode shows what its driver has", self._reports_are_current, limit=_REPORT_LIMIT)
        return self._evidence()

    def outcomes(self) -> list[PodOutcome]:
        """Every pod so far, in the order in which they came."""
        return self._outcomes(self.submitted)

    # --- a wave ---------------------------------------------------------------------------------------------

    async def _wave(self, wave: Wave) -> None:
        self.titles.append(wave.title)
        before = self._hardware()
        self.submitted += [Submitted(task, before.uuids) for task in wave.tasks]
        await self._submit([task for task in wave.tasks if task.queue])
        for task in wave.tasks:
            if task.queue is None:
                await self._view.submit(pod_manifest(task.name, {task.resource: 1}, namespace=PLAIN_NAMESPACE))
        await self._wait(
            f"{wave.title}: all pods run",
            lambda: all(_started(self._view.pods[task.key]) for task in wave.tasks),
            limit=_RUNNING_LIMIT,
        )
        self._waves.append((wave, before, self._hardware()))

    async def _submit(self, tasks: list[Task]) -> None:
        """Through ClearML, as if users had put the tasks into the queues."""
        wanted = [Submission(task.queue, task.name, task.run_seconds) for task in tasks if task.queue]
        if not wanted:
            return
        made = await to_the_end(lambda: self._stage.glue.submit_all(wanted))
        if made != [task.pod for task in tasks]:
            raise SubmissionRefused(f"ClearML made other pods than expected: {', '.join(made)}")

    async def _finish(self, wave: Wave) -> None:
        """Until the short tasks are over and their slices are reported idle."""
        self.titles.append("the short tasks end; their slices stay, idle")
        short = [task for task in wave.tasks if task.run_seconds is not None]
        await self._wait(
            f"{wave.title}: the short pods end, their slices are idle",
            lambda: all(self._let_go(task) for task in short),
            limit=_FINISHED_LIMIT,
        )

    async def _wait(self, what: str, holds: Callable[[], bool], *, limit: float) -> None:
        def holds_or_never_will() -> bool:
            check_processes(self._stage.cluster)
            return holds()

        await self._view.wait(what, holds_or_never_will, limit=limit)

    def _let_go(self, task: Task) -> bool:
        sight = self._view.pods[task.key]
        devices = _devices(self._view.mignodes.values())
        return sight.info.finished and all(devices.get(uuid) == DeviceState.IDLE for uuid in sight.devices)

    # --- what is seen ---------------------------------------------------------------------------------------

    def _hardware(self) -> _Hardware:
        uuids: set[str] = set()
        busy: set[BusySlice] = set()
        changes: dict[str, int] = {}
        for name, node in self._stage.cluster.nodes.items():
            counters = node.driver.counters()
            changes[name] = counters.gpu_instances_created + counters.gpu_instances_destroyed
            for each in (piece for gpu in node.driver.snapshot() for piece in gpu.slices):
                uuids.add(each.uuid)
                if each.processes:
                    busy.add(BusySlice(name, each.uuid, each.gpu_instance, each.processes))
        return _Hardware(frozenset(uuids), frozenset(busy), changes)

    def _reports_are_current(self) -> bool:
        return _devices(self._view.mignodes.values()).keys() == self._hardware().uuids

    def _outcomes(self, submitted: Iterable[Submitted]) -> list[PodOutcome]:
        return [each.outcome(self._view.pods.get(each.task.key)) for each in submitted]

    def _evidence(self) -> Evidence:
        nodes = self._stage.cluster.nodes
        return Evidence(
            waves=tuple(self._seen(*each) for each in self._waves),
            repartitions=tuple((each.node, each.report) for each in self._view.repartitions),
            drivers={name: node.driver.counters() for name, node in nodes.items()},
            kubelets={name: node.counters() for name, node in nodes.items()},
        )

    def _seen(self, wave: Wave, before: _Hardware, after: _Hardware) -> WaveEvidence:
        return WaveEvidence(
            pods=tuple(self._outcomes(each for each in self.submitted if each.task in wave.tasks)),
            changed_nodes=frozenset(name for name, count in after.changes.items() if count != before.changes[name]),
            busy_before=before.busy,
            busy_after=after.busy,
        )


def _started(sight: PodSight) -> bool:
    return sight.running_at is not None and bool(sight.devices)


def _devices(nodes: Iterable[MigNode]) -> dict[str, str]:
    """The state of every reported slice by UUID."""
    return {device.uuid: device.state for node in nodes for gpu in node.status.gpus for device in gpu.devices}
