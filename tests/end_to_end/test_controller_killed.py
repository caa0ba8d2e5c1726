"""A controller ends, in peace or not, and its standby goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from cdmo_harness.processes import ManagedProcess

from tests.end_to_end.bed import SOON, Bed

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(120),
    pytest.mark.simulated_kubelet(reason="it is about controllers alone"),
]

# Sockets of a controller that follows pods, nodes and MigNodes, besides the two of its event loop.
_WATCHING = 5


async def standby(bed: Bed) -> ManagedProcess:
    """One more controller, once it follows the cluster."""
    process = await asyncio.to_thread(bed.cluster.start_controller)
    await bed.view.wait("the standby watches", lambda: sockets(process) >= _WATCHING, limit=SOON)
    return process


def sockets(process: ManagedProcess) -> int:
    """How many sockets a process has open."""
    count = 0
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except OSError:
            continue  # closed meanwhile
    return count


def holder(bed: Bed) -> str:
    """Who holds the controllers' Lease."""
    path = "/apis/coordination.k8s.io/v1/namespaces/cdmo/leases/cdmo-controller"
    return str(bed.cluster.control_plane.api.get(path)["spec"]["holderIdentity"])


async def test_when_the_leader_is_killed_its_standby_serves_the_pod_that_came_meanwhile(bed: Bed) -> None:
    before = await bed.running(await bed.submit("before", "2g.12gb", node="gpu-3"))
    held, leader = bed.slice_of(before), holder(bed)
    await standby(bed)
    assert holder(bed) == leader

    await asyncio.to_thread(bed.cluster.controllers.pop(0).stop, grace=0)
    await bed.running(await bed.submit("meanwhile", "1g.6gb", 2, node="gpu-3"), limit=25.0)
    assert holder(bed) not in ("", leader)
    assert bed.slice_of(before) == held


async def test_a_leader_that_is_told_to_end_hands_over_at_once(bed: Bed) -> None:
    await standby(bed)
    leader = holder(bed)
    first = bed.cluster.controllers.pop(0)
    began = time.monotonic()
    await asyncio.to_thread(first.stop, grace=5.0)
    assert first.exit_status == 0, first.tail(20)
    await bed.running(await bed.submit("after", "1g.6gb", 2, node="gpu-3"), limit=5.0)
    assert time.monotonic() - began < 5.0
    assert holder(bed) not in ("", leader)


async def test_a_controller_that_starts_anew_keeps_to_what_was_planned(bed: Bed) -> None:
    """Its successor has no memory of promises; the spec and the hardware say enough."""
    await bed.lay_out("gpu-1", [(9, 0)], [])
    changes = bed.changes("gpu-1")
    await asyncio.to_thread(bed.cluster.controllers.pop(0).stop, grace=5.0)
    waiting = await bed.submit("waits", "3g.40gb", 2)
    await bed.view.wait("the pod is unschedulable", lambda: bed.view.pods[waiting].info.unschedulable, limit=SOON)
    await asyncio.to_thread(bed.cluster.start_controller)
    pod = await bed.running(waiting)
    assert pod.info.node_name == "gpu-1"
    assert bed.changes("gpu-1") == changes + 1
