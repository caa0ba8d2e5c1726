"""Carrying plans out: every change of a plan is made on the simulated libnvidia-ml.so.1, by CDMO's own NVML adapter.

The library refuses what a card refuses: a place that is taken, a layout that is not legal, the end of a slice on
which a process runs. For each change the GPU is cut as the snapshot shows it, with a process on every slice that is
held; then the plan's destroys and creates are done in its order, and what the GPU holds afterwards has to be the
layout that the plan promised.

A change that was carried out once on this card, from this state, is not carried out again: the library has no
memory of its own, and the same change would end the same way.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pynvml
from cdmo_harness.binaries import cache_root
from cdmo_harness.driver import GpuSpec, SimulatedDriver, SliceSnapshot, build_library
from cdmo_harness.nvml_build import SOURCES

from cdmo.errors import HardwareError
from cdmo.hardware.nvml import NvmlGpus
from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement
from cdmo.model.plan import GpuChange, Plan
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import MigNodeView, Snapshot

_PID = 4242  # of the process that holds a slice; the library only counts


class NotCarriedOut(AssertionError):
    """The card refused a plan, or was left with another layout than was promised."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What a GPU holds before the change."""

    instances: tuple[Placement, ...]
    held: frozenset[Placement]  # in use, broken, or named in a bound pod's status: not to be destroyed


def carry_out(snapshot: Snapshot, plan: Plan) -> None:
    """Make every change of the plan on simulated GPUs like those of the snapshot; NotCarriedOut where one refuses."""
    views = {view.node.name: view for view in snapshot.nodes}
    for change in plan.changes:
        view = views[change.node]
        gpu = next(each for each in view.gpus if each.pci_bus_id == change.gpu)
        refusal = _refusal(view.models[gpu.model], _before(view, gpu), change.destroy, change.create, change.layout)
        if gpu.mig_mode is not MigMode.ENABLED:
            refusal = f"its MIG mode is {gpu.mig_mode}"
        if refusal:
            raise NotCarriedOut(f"node {change.node} GPU {change.gpu}: {refusal}; {_told(change)}")


def _before(view: MigNodeView, gpu: Gpu) -> _Before:
    named = {device for pod in view.pods if not pod.finished for _, names in pod.devices for device in names}
    return _Before(
        instances=tuple(sorted(each.placement for each in gpu.slices)),
        held=frozenset(
            each.placement for each in gpu.slices if each.state is not DeviceState.IDLE or each.uuid in named
        ),
    )


def _told(change: GpuChange) -> str:
    parts = (("destroy", change.destroy), ("create", change.create), ("layout", change.layout))
    return ", ".join(f"{word} {[(each.profile_id, each.start) for each in places]}" for word, places in parts)


@lru_cache(maxsize=100_000)
def _refusal(
    model: GpuModel,
    before: _Before,
    destroy: tuple[Placement, ...],
    create: tuple[Placement, ...],
    layout: tuple[Placement, ...],
) -> str:
    """What goes wrong on a card of this model, or nothing."""
    if not set(destroy) <= set(before.instances):
        return "it would destroy what is not there"
    board = _board(model.product)
    try:
        with board.cut(before):
            board.change(destroy, create)
            found = board.instances()
    except HardwareError as error:
        return str(error)
    promised = sorted(layout)
    return "" if found == promised else f"it was left with {found}, promised were {promised}"


class _Board:
    """One simulated GPU with its MIG mode on, alone in a host."""

    def __init__(self, library: Path, folder: Path, card: str) -> None:
        bus = "00000000:10:00.0"
        gpu = GpuSpec(card, bus, "GPU-51a70000-0000-4000-8000-000000000000")
        self._driver = SimulatedDriver.create(library, folder / "state", folder / "root", gpus=[gpu])
        atexit.register(self._driver.close)
        self._library = ctypes.CDLL(str(library))
        self._bus = bus
        self._uuid = gpu.uuid
        # A destroy is refused at once or not at all: there is nothing to wait for between tries.
        self._writer = NvmlGpus(lambda: library, lambda _: None)
        with self._on_this_library():
            if self._writer.set_mig_mode(bus, True) is not MigMode.ENABLED:
                self._driver.reset_gpu(self._uuid)

    @contextmanager
    def cut(self, before: _Before) -> Iterator[None]:
        """The GPU in this state, NVML calls of this process going there; blank again at the end."""
        with self._on_this_library():
            try:
                self._cut(before)
                yield
            finally:
                for each in self._driver.snapshot()[0].slices:
                    if each.processes:
                        self._driver.remove_process(each.uuid, _PID)
                self._driver.reset_gpu(self._uuid)

    def change(self, destroy: Sequence[Placement], create: Sequence[Placement]) -> None:
        """What the agent does: destroys before creates. Raises HardwareError where the library refuses."""
        ids = {Placement(each.profile_id, each.start): each.gpu_instance for each in self._slices()}
        for placement in destroy:
            self._writer.destroy(self._bus, ids[placement], placement)
        for placement in create:
            self._writer.create(self._bus, placement)

    def instances(self) -> list[Placement]:
        """The placements of all GPU instances, ascending."""
        return sorted(Placement(each.profile_id, each.start) for each in self._slices())

    def _slices(self) -> tuple[SliceSnapshot, ...]:
        return self._driver.snapshot()[0].slices

    def _cut(self, before: _Before) -> None:
        for placement in before.instances:
            instance = self._writer.create(self._bus, placement)
            if placement in before.held:
                self._driver.add_process(instance.device_uuid, _PID)

    @contextmanager
    def _on_this_library(self) -> Iterator[None]:
        """NVML calls of this process go to this board: other tests point them elsewhere."""
        mine = {"NVMLSIM_STATE": str(self._driver.state), "NVMLSIM_ROOT": ""}  # no /proc files: nobody looks at them
        former = {name: os.environ.get(name) for name in mine}
        library = pynvml.nvmlLib
        os.environ.update(mine)
        _use(self._library)
        try:
            yield
        finally:
            _use(library)
            for name, value in former.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _use(library: ctypes.CDLL | None) -> None:
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()


@lru_cache
def _board(product: str) -> _Board:
    library = build_library(cache_root(os.environ) / "nvml")
    return _Board(library, _scratch() / _cards()[product].lower(), _cards()[product])


@lru_cache
def _cards() -> dict[str, str]:
    """The keys of all cards that can be simulated, by product."""
    tables = [json.loads(path.read_text()) for path in sorted((SOURCES / "cards").glob("*.json"))]
    return {table["product"]: table["key"] for table in tables}


@lru_cache
def _scratch() -> Path:
    """A folder for the state files, until the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="cdmo-boards-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
