"""Running the steps on the hardware, one by one; a failure takes back what was done, newest first."""

from __future__ import annotations

from typing import Protocol

import structlog

from cdmo.agent.steps import Action, Step
from cdmo.errors import CdmoError, DriverHung, NotThere
from cdmo.hardware.port import DriverReading, GpuInstance, GpuReader, GpuReading, GpuWriter
from cdmo.model.gpu import Placement
from cdmo.runtime.worker import Worker

logger = structlog.get_logger(__name__)


class DeviceNodes(Protocol):
    """Makes /dev/nvidia-caps nodes: since toolkit 1.18 nobody else does, and without them containers fail."""

    def ensure(self, gpu_minor: int, gpu_instance: int, compute_instances: tuple[int, ...]) -> None:
        """Make the nodes of one GPU instance and its compute instances, or mend them."""
        ...


class Applier:
    """Applies steps. Only one change runs at a time, inside the fence."""

    def __init__(
        self, reader: GpuReader, writer: GpuWriter, nodes: DeviceNodes, worker: Worker, step_limit: float
    ) -> None:
        """step_limit: seconds after which a step that has not returned is given up as hung."""
        self._reader = reader
        self._writer = writer
        self._nodes = nodes
        self._worker = worker
        self._step_limit = step_limit

    async def apply(self, steps: tuple[Step, ...], driver: DriverReading, *, take_back: bool) -> None:
        """Run all steps. On a failure undo those already done, if `take_back`, and raise the failure.

        `driver`: the reading that the steps were decided by, inside the fence. The driver is not read for each step:
        all GPUs answer some dozen questions each, which takes as long as all else that a step does itself.

        Not so on DriverHung: whether that step happened nobody knows yet, and the driver takes no other call.
        """
        done: list[Step] = []
        seen = {each.pci_bus_id: each for each in driver.gpus}
        try:
            for step in steps:
                await self._worker.run_within(self._step_limit, self._run, step, seen)
                done.append(step)
        except DriverHung as failure:
            logger.error("the driver hangs in a step", step=str(steps[len(done)]), error=str(failure), done=len(done))
            raise
        except CdmoError as failure:
            logger.warning("a step failed", step=str(steps[len(done)]), error=str(failure), undo=take_back)
            if take_back:
                await self._undo(done)
            raise

    async def ensure_device_nodes(self, driver: DriverReading) -> None:
        """Make or mend the device nodes of every instance there is: they are lost on reboot and driver reload."""
        await self._worker.run(self._make_all_nodes, driver)

    async def _undo(self, done: list[Step]) -> None:
        for step in reversed(done):
            undo = step.undo
            if undo is None:
                continue
            try:
                await self._worker.run_within(self._step_limit, self._run, undo, {})
            except CdmoError as failure:
                # The rest is still worth undoing; what is left shows in the next observation.
                logger.error("a step could not be undone", step=str(undo), error=str(failure))

    def _run(self, step: Step, seen: dict[str, GpuReading]) -> None:
        """`seen`: GPUs by bus as they were read before the change; one that is not there is read again."""
        match step:
            case Step(Action.ENABLE_MIG | Action.DISABLE_MIG as action, gpu):
                seen.pop(gpu, None)
                self._writer.set_mig_mode(gpu, action is Action.ENABLE_MIG)
            case Step(Action.RESET, gpu):
                seen.pop(gpu, None)
                self._writer.reset(gpu)
            case Step(Action.CREATE, gpu, Placement() as placement):
                instance = self._writer.create(gpu, placement)
                self._make_nodes(seen.get(gpu) or self._gpu(gpu), instance)
            case Step(Action.DESTROY, gpu, Placement() as placement):
                self._destroy(gpu, placement, seen.get(gpu))

    def _destroy(self, bus: str, placement: Placement, seen: GpuReading | None) -> None:
        if seen is not None and (known := _at(placement, seen)):
            try:
                self._writer.destroy(bus, known.id, placement)
            except NotThere:
                logger.info("an instance is not where it was seen", gpu=bus, instance=known.id)
            else:
                return
        instance = _at(placement, self._gpu(bus))
        if instance is not None:  # gone by itself is what was wanted
            self._writer.destroy(bus, instance.id, placement)

    def _make_all_nodes(self, driver: DriverReading) -> None:
        for gpu in (each for each in driver.gpus if not each.problem):
            for instance in gpu.instances:
                self._make_nodes(gpu, instance)

    def _make_nodes(self, gpu: GpuReading, instance: GpuInstance) -> None:
        self._nodes.ensure(gpu.minor, instance.id, tuple(each.id for each in instance.compute_instances))

    def _gpu(self, bus: str) -> GpuReading:
        gpu = self._reader.read().gpu(bus)
        if gpu is None:
            raise NotThere(f"GPU {bus} is no longer there")
        return gpu


def _at(placement: Placement, gpu: GpuReading) -> GpuInstance | None:
    return next((each for each in gpu.instances if each.placement == placement), None)
