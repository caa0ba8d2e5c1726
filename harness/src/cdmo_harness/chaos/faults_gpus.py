"""Faults of the driver and of pods that end badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

from cdmo_harness.chaos.schedule import FaultKind, Planned, Where
from cdmo_harness.chaos.stage import Stage
from cdmo_harness.driver import SimulatorRefused

# Entry points that the agent needs and the device plugin does not: how the plugin takes it is not the question.
_CHANGING = (
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceDestroy",
    "nvmlGpuInstanceDestroy",
)
_READING = (
    "nvmlDeviceGetGpuInstances",
    "nvmlGpuInstanceGetComputeInstances",
    "nvmlDeviceGetComputeRunningProcesses_v3",
)
# NVML_ERROR_INVALID_ARGUMENT, NOT_SUPPORTED, TIMEOUT, GPU_IS_LOST, IN_USE, UNKNOWN (nvml.h)
_CODES = (2, 3, 10, 15, 19, 999)
_IN_USE, _UNKNOWN = 19, 999
_CONTAINED_ERROR, _UNCONTAINED_ERROR = 94, 95  # XIDs of a slice and of a GPU
_REARM_SECONDS = 0.05


@asynccontextmanager
async def nvml_fails(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Calls fail now and then, with one of several codes."""
    driver, random = stage.node(fault.target).driver, Random(fault.seed)
    stop = asyncio.Event()

    async def keep_failing() -> None:
        while not stop.is_set():
            entry, code = random.choice((*_CHANGING, *_READING)), random.choice(_CODES)
            await asyncio.to_thread(driver.fail_nth, entry, code, nth=random.randint(1, 3))
            await asyncio.sleep(random.uniform(0.05, 0.5))

    task = asyncio.create_task(keep_failing())
    try:
        yield
    finally:
        stop.set()
        await task
        for entry in (*_CHANGING, *_READING):
            await asyncio.to_thread(driver.fail_nth, entry, _UNKNOWN, nth=0)


@asynccontextmanager
async def nvml_hangs(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """One call does not return."""
    driver, entry = stage.node(fault.target).driver, Random(fault.seed).choice((*_CHANGING, *_READING))
    await asyncio.to_thread(driver.hang, entry)
    try:
        yield
    finally:
        await asyncio.to_thread(driver.release, entry)


@asynccontextmanager
async def destroy_in_use(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Nothing can be destroyed for a while, as when a monitor holds on to it."""
    driver = stage.node(fault.target).driver
    stop = asyncio.Event()

    async def keep_busy() -> None:
        while not stop.is_set():
            await asyncio.to_thread(driver.fail_nth, "nvmlGpuInstanceDestroy", _IN_USE)
            await asyncio.sleep(_REARM_SECONDS)

    task = asyncio.create_task(keep_busy())
    try:
        yield
    finally:
        stop.set()
        await task
        await asyncio.to_thread(driver.fail_nth, "nvmlGpuInstanceDestroy", _UNKNOWN, nth=0)


@asynccontextmanager
async def slice_breaks(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """An XID of one slice: the plugin holds it unhealthy at once, the Node offers it until CDMO has heard."""
    driver = stage.node(fault.target).driver
    slices = [each.uuid for gpu in await asyncio.to_thread(driver.snapshot) for each in gpu.slices if each.uuid]
    async with stage.losing_pods(fault.target, fault.kind):
        if slices:
            with suppress(SimulatorRefused):  # it went meanwhile
                await asyncio.to_thread(driver.inject_xid, Random(fault.seed).choice(slices), _CONTAINED_ERROR)
        yield


@asynccontextmanager
async def gpu_breaks(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """An XID of a whole GPU, after which the administrator reboots the node."""
    driver = stage.node(fault.target).driver
    gpus = await asyncio.to_thread(driver.snapshot)
    async with stage.losing_pods(fault.target, fault.kind):
        await asyncio.to_thread(driver.inject_xid, Random(fault.seed).choice(gpus).uuid, _UNCONTAINED_ERROR)
        try:
            yield
        finally:
            await stage.reboot(fault.target)


@asynccontextmanager
async def gpu_lost(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """A GPU falls off the bus, and is back after a reboot."""
    driver = stage.node(fault.target).driver
    gpus = await asyncio.to_thread(driver.snapshot)
    async with stage.losing_pods(fault.target, fault.kind):
        await asyncio.to_thread(driver.set_lost, Random(fault.seed).choice(gpus).uuid, True)
        try:
            yield
        finally:
            await stage.reboot(fault.target)


_WHOLE_NODE = ("kubelet/{}", "plugin/{}", "agent/{}", "gpus/{}", "disk/{}")

GPUS = (
    FaultKind("NVML fails", nvml_fails, Where.NODE, (1.0, 6.0), ("gpus/{}",), weight=2),
    FaultKind("NVML hangs", nvml_hangs, Where.NODE, (1.0, 15.0), ("gpus/{}",), weight=2),
    FaultKind("slice has an XID", slice_breaks, Where.NODE, (4.0, 8.0), ("health/{}",), loses_pods=True),
    FaultKind("GPU has an XID, reboot", gpu_breaks, Where.NODE, (3.0, 8.0), _WHOLE_NODE, loses_pods=True),
    FaultKind("GPU lost, reboot", gpu_lost, Where.NODE, (3.0, 8.0), _WHOLE_NODE, loses_pods=True),
    FaultKind("destroy says IN_USE", destroy_in_use, Where.NODE, (1.0, 6.0), ("gpus/{}",)),
)
