"""What a node says of itself: the kubelet's messages, /proc, the driver's files and NVML's answers."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from grpc._common import deserialize

from cdmo.agent.modes import ModeReport
from cdmo.agent.observe import Observation
from cdmo.agent.report import Health, Report, status_of
from cdmo.agent.revisions import Revisions
from cdmo.api.v1alpha1 import Metadata, MigNode, MigNodeStatus
from cdmo.errors import DriverUnavailable, HardwareError, KubeletUnavailable
from cdmo.hardware.discovery import discovery_as_json, discovery_tables
from cdmo.hardware.library import DRIVER_READY, LIBRARY_NAME, DriverSearch
from cdmo.hardware.nvml import MAX_INSTANCES_IN_ALL
from cdmo.hardware.nvml_values import (
    blank_reading,
    bounded,
    bus_id_of,
    failed,
    mode_of,
    placement_of,
    profile_of,
)
from cdmo.hardware.port import ComputeInstance, DriverReading, GpuInstance, GpuReading
from cdmo.kube.mignode_api import mig_node
from cdmo.kubelet._pb import podresources_pb2 as api
from cdmo.kubelet.devicenodes import CapabilityNodes, NodeKind
from cdmo.kubelet.podresources import KubeletPodResources
from cdmo.kubelet.processes import ProcessTable
from cdmo.model.profile import GpuModel
from cdmo.runtime.hostpaths import HostPaths
from tests.builders import NOW
from tests.fakes.clock import HastyClock
from tests.fuzz.mutate import Json
from tests.fuzz.target import Run, Target

PLUGIN = "nvidia-device-plugin"


class _Kubelet:
    """A stub of the service: the generated decoder gets what comes over the wire."""

    def __init__(self) -> None:
        self.answer = b""

    def __getattr__(self, method: str) -> Any:
        message = {
            "List": api.ListPodResourcesResponse,
            "Get": api.GetPodResourcesResponse,
            "GetAllocatableResources": api.AllocatableResourcesResponse,
        }[method]

        async def call(request: object, timeout: float) -> Any:
            return deserialize(self.answer, message.FromString)  # as gRPC itself does it

        return call


@contextmanager
def _pod_resources(folder: Path) -> Iterator[Run]:
    kubelet = _Kubelet()
    client = KubeletPodResources(folder / "kubelet.sock", clock=HastyClock())
    client._stub = kubelet  # the place of the channel: opening one for each input would test gRPC
    with asyncio.Runner() as runner:

        async def ask() -> int:
            read = 0
            for call in (client.list, client.allocatable, lambda: client.get("ml", "train")):
                try:
                    answer = await call()
                except KubeletUnavailable:
                    continue
                read += 1
                assert answer is None or isinstance(repr(answer), str)
            return read

        def run(content: bytes) -> bool:
            kubelet.answer = content
            return runner.get_loop().run_until_complete(ask()) > 0

        yield run


def _messages() -> list[bytes]:
    devices = [
        api.ContainerDevices(resource_name="nvidia.com/mig-1g.10gb", device_ids=["MIG-1", "MIG-2"]),
        api.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=["GPU-1"]),
    ]
    pod = api.PodResources(
        name="train", namespace="ml", containers=[api.ContainerResources(name="main", devices=devices)]
    )
    return [
        api.ListPodResourcesResponse(pod_resources=[pod, pod]).SerializeToString(),
        api.GetPodResourcesResponse(pod_resources=pod).SerializeToString(),
        api.AllocatableResourcesResponse(devices=devices).SerializeToString(),
    ]


@contextmanager
def _processes(folder: Path) -> Iterator[Run]:
    """This process as /proc might describe it; nobody is signalled."""
    own = folder / str(os.getpid())
    (own / "fd").mkdir(parents=True)
    (own / "net").mkdir()
    (own / "fd/3").symlink_to("socket:[4711]")
    for odd in ("9" * 30, "0", "-1", "self"):
        (folder / odd).mkdir()
        (folder / odd / "cmdline").write_bytes(PLUGIN.encode() + b"\0")
    table = ProcessTable(folder)

    def run(content: bytes) -> bool:
        for name in ("cmdline", "status", "stat", "net/unix"):
            (own / name).write_bytes(content)
        found = table.find(PLUGIN)
        (own / "cmdline").write_bytes(PLUGIN.encode() + b"\0--flag")
        mine = [each for each in (*found, *table.find(PLUGIN)) if each.pid == os.getpid()]
        assert mine, "the process is found by its own command line"
        table.catches(mine[0], signal.SIGHUP)
        assert not math.isnan(table.age(mine[0]))
        table.unix_connections(mine[0])
        for each in found if mine[0] not in found else (*found, mine[-1]):
            with each:
                pass
        return len(mine) > 1

    yield run


_PROC = (
    b"/usr/bin/nvidia-device-plugin\0--mig-strategy=mixed\0",
    b"Name:\tnvidia-device-\nSigCgt:\t0000000000000001\n",
    b"7 (nvidia-device-) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 9 0 12345 1 1 1\n",
    b"Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 00000000 0001 03 4711 /x/nvidia-mig-1g.sock\n",
)


@contextmanager
def _device_nodes(folder: Path) -> Iterator[Run]:
    """Whatever the driver's files say, nothing is made outside the two folders for it."""
    host = HostPaths(folder / "host")
    instance = host.proc / "driver/nvidia/capabilities/gpu0/mig/gi7"
    (instance / "ci0").mkdir(parents=True)
    host.dev.mkdir()
    nodes = CapabilityNodes(host, lambda: (host.dev,), NodeKind.PLACEHOLDER)

    def run(content: bytes) -> bool:
        sound = b"Character devices:\n238 nvidia-caps\n\nBlock devices:\n"
        (host.proc / "devices").write_bytes(content if b"devices" in content else sound)
        (instance / "access").write_bytes(content)
        (instance / "ci0/access").write_bytes(content)
        try:
            nodes.ensure(0, 7, (0,))
        except HardwareError as error:
            assert str(error).isprintable()
            return False
        finally:
            made = {str(each.relative_to(host.dev)) for each in host.dev.rglob("*") if not each.is_dir()}
            assert all(each.startswith(("nvidia-caps/nvidia-cap", "char/")) for each in made)
        for each in (*host.dev.rglob("nvidia-cap*[0-9]"), *host.dev.rglob("*:*")):
            each.unlink()
        return True

    yield run


_ACCESS = (
    b"DeviceFileMinor: 471\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
    b"Character devices:\n  1 mem\n195 nvidiactl\n238 nvidia-caps\n\nBlock devices:\n 99 nvidia-caps\n",
)


@contextmanager
def _driver_ready(folder: Path) -> Iterator[Run]:
    """The library is found below the host's root, or it is said that there is none."""
    host = HostPaths(folder / "host")
    ready = host.under(DRIVER_READY)
    ready.parent.mkdir(parents=True)
    library = host.under(f"/opt/driver/usr/lib64/{LIBRARY_NAME}")
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00")

    def run(content: bytes) -> bool:
        ready.write_bytes(content)
        try:
            found = DriverSearch(host)()
        except DriverUnavailable as error:
            assert str(error).isprintable()
            return False
        assert all(
            each.is_relative_to(host.root) and ".." not in each.parts for each in (found.library, *found.dev_roots)
        )
        return True

    yield run


_READY = (b"NVIDIA_DRIVER_ROOT=/opt/driver\nNVIDIA_DEV_ROOT=/opt/driver\n", b"DRIVER_ROOT='/opt/driver'\n")


def _number(value: Any, bits: int = 32) -> int:
    """As C would hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    return int(value) % (1 << bits) if isinstance(value, int | float) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)[:2000]


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _rows(value: Any, most: int) -> list[Any]:
    return value[:most] if isinstance(value, list) else []


def _model(answers: Any) -> GpuModel:
    found = {}
    for info in _rows(_part(answers, "profiles"), 64):
        names = ("id", "sliceCount", "instanceCount", "decoderCount", "encoderCount", "jpegCount", "ofaCount")
        numbers = {name: _number(_part(info, name)) for name in names}
        struct = SimpleNamespace(
            **numbers, memorySizeMB=_number(_part(info, "memorySizeMB"), 64), name=_text(_part(info, "name"))
        )
        places = [tuple(map(_number, (*_rows(each, 2), 0, 0)[:2])) for each in _rows(_part(info, "places"), 64)]
        if profile := profile_of(struct, [(start, size) for start, size in places]):
            found[profile.id] = profile
    profiles = tuple(found[each] for each in sorted(found))
    slots = max((each.starts[-1] + each.size for each in profiles), default=0)
    return GpuModel(bounded(_text(_part(answers, "name"))), slots, profiles)


def _gpu(answers: Any) -> GpuReading | None:
    """What the adapter makes of a GPU's answers; None where it cannot be named."""
    try:
        bus = bus_id_of(_text(_part(answers, "bus")))
    except HardwareError as error:
        assert str(error).isprintable()
        return None
    modes = (*_rows(_part(answers, "modes"), 2), 0, 0)
    reading = replace(
        blank_reading(bus, bounded(_text(_part(answers, "uuid"))), None),
        memory_mib=_number(_part(answers, "memory"), 44),
        mig_mode=mode_of(_number(modes[0]), _number(modes[1])),
        model=_model(answers),
    )
    try:
        return replace(reading, instances=_instances(answers))
    except HardwareError as error:
        return failed(reading, error)


def _instances(answers: Any) -> tuple[GpuInstance, ...]:
    listed = _rows(_part(answers, "instances"), MAX_INSTANCES_IN_ALL)
    return tuple(
        GpuInstance(
            id=_number(_part(each, "id")),
            placement=placement_of(_number(_part(each, "profile")), _number(_part(each, "start"))),
            size=_number(_part(each, "size")),
            compute_instances=(ComputeInstance(0, bounded(_text(_part(each, "uuid")))),),
            processes=tuple(map(_number, _rows(_part(each, "pids"), 64))),
        )
        for each in listed
    )


def _nvml(content: bytes) -> bool:
    """Whatever the driver answers, the agent's status is one that the API takes and that reads as it was written."""
    try:
        answers = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False
    gpus = {each.pci_bus_id: each for each in map(_gpu, _rows(answers, 32)) if each is not None}
    reading = DriverReading(bounded("550.1"), tuple(gpus[bus] for bus in sorted(gpus)))
    msgspec.json.encode(discovery_as_json(reading))
    assert all(len(row) == 7 for _, rows in discovery_tables(reading) for row in rows)
    before = MigNodeStatus()
    revisions = Revisions(before)
    revisions.see(reading)
    status = status_of(Report(Observation(reading, {}), Health(), 1, "boot", ModeReport()), revisions, before, NOW)
    node = MigNode(metadata=Metadata(name="gpu-1"), status=status)
    assert mig_node(msgspec.json.encode(node)) == node
    assert all(each.product.isprintable() for each in status.models)
    return bool(status.gpus)


@contextmanager
def _answers(folder: Path) -> Iterator[Run]:
    yield _nvml


def _cards() -> list[Json]:
    profile = {
        "id": 19, "sliceCount": 1, "instanceCount": 7, "decoderCount": 1, "encoderCount": 0, "jpegCount": 1,
        "ofaCount": 0, "memorySizeMB": 9856, "name": "MIG 1g.10gb", "places": [[0, 1], [1, 1], [2, 1]],
    }  # fmt: skip
    big = {**profile, "id": 0, "sliceCount": 7, "instanceCount": 1, "name": "MIG 7g.80gb", "places": [[0, 8]]}
    instance = {"id": 7, "profile": 19, "start": 1, "size": 1, "uuid": "MIG-1", "pids": [100]}
    card = {
        "bus": "00000000:10:00.0", "uuid": "GPU-1", "name": "NVIDIA H100 80GB HBM3", "memory": 81559, "modes": [1, 1],
        "profiles": [profile, big], "instances": [instance],
    }  # fmt: skip
    return [[card], [card, {**card, "bus": "00000000:20:00.0", "instances": []}]]


TARGETS = (
    Target("podresources", 6, _messages, _pod_resources),
    Target("proc", 4, lambda: _PROC, _processes),
    Target("devicenodes", 3, lambda: _ACCESS, _device_nodes),
    Target("driverready", 2, lambda: _READY, _driver_ready),
    Target("nvml", 6, _cards, _answers),
)
