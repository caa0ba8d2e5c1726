"""The checkpoint file keeps who holds what across a restart."""

from __future__ import annotations

import json
from pathlib import Path

from cdmo_harness.kubelet import checkpoint
from cdmo_harness.kubelet.devices import Allocation, ContainerResponse, PodAllocations

from tests.harness.kubelet.builders import ONE_G


def decode(encoded: bytes) -> ContainerResponse:
    return ContainerResponse((), encoded)


def allocations() -> PodAllocations:
    held = PodAllocations()
    numa = {"MIG-a": (0,), "MIG-b": ()}
    held.insert("uid", "main", ONE_G, Allocation(frozenset(numa), numa, ContainerResponse((), b"answer")))
    return held


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE_NAME
    checkpoint.write(path, allocations(), [ONE_G])
    assert checkpoint.read(path, decode) == (allocations(), [ONE_G])


def test_the_file_has_the_real_kubelets_shape(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE_NAME
    checkpoint.write(path, allocations(), [ONE_G])
    document = json.loads(path.read_text())
    assert document["Data"]["RegisteredDevices"].keys() == {ONE_G}
    (entry,) = document["Data"]["PodDeviceEntries"]
    assert entry["DeviceIDs"] == {"0": ["MIG-a"], "-1": ["MIG-b"]}
    assert {"PodUID", "ContainerName", "ResourceName", "AllocResp"} <= entry.keys()


def test_a_missing_torn_or_changed_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE_NAME
    assert checkpoint.read(path, decode) is None
    checkpoint.write(path, allocations(), [ONE_G])
    whole = path.read_text()
    path.write_text(whole[:40])
    assert checkpoint.read(path, decode) is None
    path.write_text(whole.replace("MIG-a", "MIG-c"))
    assert checkpoint.read(path, decode) is None
