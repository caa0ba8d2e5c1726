"""The device manager's checkpoint file, in the format of the real one.

`kubelet_internal_checkpoint`: JSON with PodDeviceEntries (devices keyed by NUMA node, "-1" for none; the plugin's
answer as base64) and RegisteredDevices (pkg/kubelet/cm/devicemanager/checkpoint). The checksum of the real file is
a hash over a Go value's printed form; here it is a CRC of the data's JSON, enough to notice a torn write.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .devices import Allocation, ContainerResponse, PodAllocations

FILE_NAME = "kubelet_internal_checkpoint"
_NO_NUMA = "-1"


def write(path: Path, allocations: PodAllocations, resources: Iterable[str]) -> None:
    """Replace the checkpoint in one step."""
    entries = [
        {
            "PodUID": pod_uid,
            "ContainerName": container,
            "ResourceName": resource,
            "DeviceIDs": _by_numa(allocation),
            "AllocResp": base64.b64encode(allocation.response.encoded).decode(),
        }
        for pod_uid, containers in allocations.by_pod.items()
        for container, by_resource in containers.items()
        for resource, allocation in by_resource.items()
    ]
    data = {"PodDeviceEntries": entries, "RegisteredDevices": {resource: [] for resource in resources}}
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps({"Data": data, "Checksum": _checksum(data)}))
    fresh.rename(path)


def read(path: Path, decode: Callable[[bytes], ContainerResponse]) -> tuple[PodAllocations, list[str]] | None:
    """Allocations and resource names of the checkpoint; None when there is none or it is damaged."""
    try:
        document = json.loads(path.read_text())
        data = document["Data"]
        if document["Checksum"] != _checksum(data):
            return None
        allocations = PodAllocations()
        for entry in data["PodDeviceEntries"]:
            response = decode(base64.b64decode(entry["AllocResp"]))
            allocation = _allocation(entry["DeviceIDs"], response)
            allocations.insert(entry["PodUID"], entry["ContainerName"], entry["ResourceName"], allocation)
        return allocations, list(data["RegisteredDevices"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _by_numa(allocation: Allocation) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for device_id in sorted(allocation.device_ids):
        for node in allocation.numa_nodes.get(device_id) or (_NO_NUMA,):
            result.setdefault(str(node), []).append(device_id)
    return result


def _allocation(by_numa: dict[str, list[str]], response: ContainerResponse) -> Allocation:
    numa: dict[str, tuple[int, ...]] = {}
    for node, device_ids in by_numa.items():
        for device_id in device_ids:
            numa[device_id] = numa.get(device_id, ()) + (() if node == _NO_NUMA else (int(node),))
    return Allocation(frozenset(numa), numa, response)


def _checksum(data: Any) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode())
