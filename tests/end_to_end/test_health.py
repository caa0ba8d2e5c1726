"""Slices and GPUs go wrong: nobody new gets them, their pods are told, and they are used again when they are well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.end_to_end.bed import SOON, Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NODE = "gpu-1"  # two H100
THREE, SEVEN = "3g.40gb", "7g.80gb"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"


class Told:
    """The Events about the health of GPUs that are written from now on."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._before = {each["metadata"]["uid"] for each in self._all()}

    def of(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Those on one object. A short blocking call."""
        return [
            each
            for each in self._all()
            if (each["regarding"]["kind"], each["regarding"]["name"]) == (kind, name)
            and each["metadata"]["uid"] not in self._before
        ]

    def reasons(self, kind: str, name: str) -> list[str]:
        """Their reasons, the oldest first."""
        return [each["reason"] for each in sorted(self.of(kind, name), key=lambda each: str(each["eventTime"]))]

    async def wait(self, kind: str, name: str, *reasons: str) -> None:
        """Return once the object has exactly these."""
        await self._bed.view.wait(
            f"{kind} {name} is told {reasons}", lambda: self.reasons(kind, name) == list(reasons), limit=SOON
        )

    def _all(self) -> list[dict[str, Any]]:
        answer = self._bed.cluster.control_plane.api.get(EVENTS)
        return [each for each in answer["items"] if each["reason"] in ("GpuUnhealthy", "GpuRecovered")]


def gpu_uuid(bed: Bed, index: int) -> str:
    """A GPU of the node."""
    return bed.cluster.nodes[NODE].driver.snapshot()[index].uuid


def problems(bed: Bed) -> list[str]:
    """What is reported to be wrong with each GPU of the node."""
    return [each.problem for each in bed.view.mignodes[NODE].status.gpus]


def slice_problems(bed: Bed) -> list[str]:
    """What is reported to be wrong with slices of the node."""
    gpus = bed.view.mignodes[NODE].status.gpus
    return [each.problem for gpu in gpus for each in gpu.devices if each.problem]


def offered(bed: Bed, profile: str) -> int:
    """How many slices of a profile the node offers to the scheduler."""
    return bed.view.nodes[NODE].allocatable.get(f"nvidia.com/mig-{profile}", 0)


async def until_healthy(bed: Bed) -> None:
    """All GPUs and slices of the node are reported to be well, and it is at rest."""
    await bed.view.wait(
        f"{NODE} is healthy",
        lambda: (
            bed.condition(NODE, "GpusHealthy").status == bed.condition(NODE).status == "True" and bed.settled(NODE)
        ),
        limit=60.0,
    )


async def test_a_slice_with_an_xid_is_out_of_use_until_its_pod_is_gone_and_it_was_cut_anew(bed: Bed) -> None:
    await bed.lay_out(NODE, [(9, 0), (9, 4)], [])
    first = await bed.running(await bed.submit("first", THREE, node=NODE))
    bad, told, before = bed.slice_of(first), Told(bed), bed.hardware(NODE)
    bed.cluster.nodes[NODE].driver.inject_xid(bad.uuid, 94)
    await told.wait("Pod", "first", "GpuUnhealthy")
    await told.wait("Node", NODE, "GpuUnhealthy")
    assert "XID 94 (contained memory error)" in told.of("Pod", "first")[0]["note"]
    assert slice_problems(bed) == ["XID 94 (contained memory error)"]
    assert problems(bed) == ["", ""]
    await bed.view.wait("the node offers one less", lambda: offered(bed, THREE) == 1, limit=SOON)
    assert bed.condition(NODE).status == "True"

    # The scheduler counts `first` against the one slice that is left: whoever comes gets another one cut.
    second = await bed.running(await bed.submit("second", THREE, node=NODE))
    await asyncio.to_thread(bed.cluster.stop_agent, NODE, grace=0)
    await asyncio.to_thread(bed.cluster.start_agent, NODE)
    third = await bed.running(await bed.submit("third", THREE, node=NODE))
    assert bad.uuid not in {*second.devices, *third.devices}
    assert bed.view.pod("first").phase == "Running"
    assert slice_problems(bed) == ["XID 94 (contained memory error)"], "an agent that starts anew remembers"
    assert told.reasons("Pod", "first") == ["GpuUnhealthy"], "once"

    await bed.end("default/first")
    await told.wait("Node", NODE, "GpuUnhealthy", "GpuRecovered")
    await until_healthy(bed)
    assert bed.hardware(NODE).gpu_instances_destroyed == before.gpu_instances_destroyed + 1
    assert (0, 9, bad.start) in bed.slices(NODE)
    assert offered(bed, THREE) == 4
    keys = [await bed.submit(f"again-{number}", THREE, node=NODE) for number in range(2)]
    pods = [await bed.running(key) for key in keys]
    assert bad.start in {bed.slice_of(each).start for each in pods}


async def test_a_gpu_with_an_uncontained_error_is_left_alone_until_it_was_reset(bed: Bed) -> None:
    await bed.lay_out(NODE, [(9, 0), (9, 4)], [])
    ran = await bed.running(await bed.submit("ran", THREE, node=NODE))
    told, before = Told(bed), bed.hardware(NODE)
    bed.cluster.nodes[NODE].driver.inject_xid(gpu_uuid(bed, 0), 95)
    await told.wait("Pod", "ran", "GpuUnhealthy")
    await bed.view.wait("the node offers none of its slices", lambda: offered(bed, THREE) == 0, limit=SOON)
    assert "XID 95" in problems(bed)[0]

    await bed.running(await bed.submit("seven", SEVEN, node=NODE), limit=60.0)
    await bed.submit("waits", SEVEN, node=NODE)
    await bed.view.wait("the other pod is told why it waits", lambda: bool(bed.waiting_events("waits")), limit=SOON)
    after = bed.hardware(NODE)
    assert (after.gpu_instances_created, after.gpu_instances_destroyed) == (
        before.gpu_instances_created + 1,
        before.gpu_instances_destroyed,
    )
    assert bed.view.pod("ran").devices == ran.devices

    await bed.end("default/ran")
    assert problems(bed)[0], "the end of a pod heals nothing"
    bed.cluster.nodes[NODE].driver.reset_gpu(gpu_uuid(bed, 0))
    await told.wait("Node", NODE, "GpuUnhealthy", "GpuRecovered")
    await bed.running("default/waits", limit=60.0)
    await until_healthy(bed)


async def test_while_a_gpu_is_lost_nothing_is_changed_on_its_node_and_afterwards_all_goes_on(bed: Bed) -> None:
    await bed.lay_out(NODE, [(9, 0), (9, 4)], [(9, 0)])
    await bed.running(await bed.submit("ran", THREE, node=NODE))
    told, before = Told(bed), bed.hardware(NODE)
    held = bed.slice_of(bed.view.pod("ran"))
    index = next(where[0] for where, each in bed.slices(NODE).items() if each.uuid == held.uuid)
    driver = bed.cluster.nodes[NODE].driver
    driver.inject_xid(gpu_uuid(bed, index), 79)
    driver.set_lost(gpu_uuid(bed, index), True)
    await told.wait("Pod", "ran", "GpuUnhealthy")
    await bed.view.wait("the node says so", lambda: bed.condition(NODE).reason == "GpuDoesNotAnswer", limit=SOON)
    await bed.submit("waits", SEVEN, node=NODE)
    await bed.view.wait("the pod is told why it waits", lambda: bool(bed.waiting_events("waits")), limit=SOON)
    assert "does not answer" in bed.waiting_events("waits")[0]["note"]
    assert bed.hardware(NODE) == before
    assert bed.cluster.nodes[NODE].plugin is not None, "it was not made to look at a GPU that ends it"

    driver.set_lost(gpu_uuid(bed, index), False)
    await bed.view.wait("the node is well", lambda: bed.condition(NODE).status == "True", limit=SOON)
    await bed.end("default/ran")
    await bed.running("default/waits", limit=60.0)
    await until_healthy(bed)
