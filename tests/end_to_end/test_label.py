"""The administrator's label decides whether CDMO changes a node."""

from __future__ import annotations

import pytest

from cdmo.model.modes import ModePolicy
from cdmo.model.names import MIG_MODE_ANNOTATION
from tests.end_to_end.bed import LABELLED, SOON, UNLABELLED, Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

NODES = ("gpu-1", "gpu-2", "gpu-3")


async def test_without_the_label_nothing_changes_and_with_it_everything_goes_on(bed: Bed) -> None:
    await bed.lay_out("gpu-3", [(14, 0), (5, 2)])
    runner = await bed.running(await bed.submit("runner", "1g.6gb"))
    for node in NODES:
        await bed.view.label_node(node, UNLABELLED)
    await bed.view.wait(
        "no node has the label",
        lambda: not any(LABELLED.items() <= bed.view.nodes[n].labels.items() for n in NODES),
        limit=SOON,
    )
    slices = {node: bed.slices(node) for node in NODES}
    hardware = {node: bed.hardware(node) for node in NODES}

    await bed.submit("waits", "1g.6gb", 3)
    await bed.submit("waits-too", "7g.80gb")
    await bed.view.wait("the pods are told why they wait", lambda: told(bed, "waits", "waits-too"), limit=SOON)
    # A slice that is there needs no CDMO: the scheduler and the kubelet go on without it.
    idle = await bed.running(await bed.submit("idle-slice", "2g.12gb"))
    await bed.end("default/idle-slice")

    assert bed.view.pods["default/waits"].phase == bed.view.pods["default/waits-too"].phase == "Pending"
    assert {node: bed.hardware(node) for node in NODES} == hardware
    assert {node: bed.slices(node) for node in NODES} == slices
    assert bed.slice_of(runner).processes == 1
    assert idle.devices == (slices["gpu-3"][0, 5, 2].uuid,)

    for node in NODES:
        await bed.view.label_node(node, LABELLED)
    await bed.running("default/waits")
    await bed.running("default/waits-too")
    assert bed.slice_of(runner).uuid == slices["gpu-3"][0, 14, 0].uuid


async def test_a_node_set_to_disabled_is_cut_for_nobody_and_given_back_until_it_is_managed_again(bed: Bed) -> None:
    await bed.lay_out("gpu-3", [(14, 0)])
    await bed.view.patch_mignode("gpu-3", {"spec": {"mode": "Disabled", "gpus": []}})
    await bed.view.wait("its MIG mode is to be off", lambda: bed.noted_off("gpu-3"), limit=SOON)
    assert bed.slices("gpu-3") == {}
    await bed.submit("waits", "2g.12gb")
    await bed.view.wait("the pod is told why it waits", lambda: told(bed, "waits"), limit=SOON)
    assert bed.slices("gpu-3") == {}

    await bed.annotate("gpu-3", {MIG_MODE_ANNOTATION: ModePolicy.WHEN_IDLE})
    await bed.view.patch_mignode("gpu-3", {"spec": {"mode": "Managed"}})
    await bed.running("default/waits")
    await bed.annotate("gpu-3", {MIG_MODE_ANNOTATION: None})


def told(bed: Bed, *pods: str) -> bool:
    """Whether each of these pods has an Event that says why it waits."""
    return all(bed.waiting_events(pod) for pod in pods)
