"""Cutting beside slices that are in use, and not cutting at all where what is asked for is there."""

from __future__ import annotations

import pytest

from tests.end_to_end.bed import Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(90)]


async def test_re_cutting_a_gpu_leaves_its_busy_slice_and_the_process_on_it_untouched(bed: Bed) -> None:
    await bed.lay_out("gpu-3", [(14, 0), (5, 2)])
    busy = await bed.running(await bed.submit("busy", "1g.6gb", node="gpu-3"))
    before = bed.slice_of(busy)
    assert before.processes == 1
    changes, killed = bed.changes("gpu-3"), bed.cluster.nodes["gpu-3"].counters().killed

    await bed.running(await bed.submit("wide", "1g.6gb", 3, node="gpu-3"))
    assert bed.slices("gpu-3").keys() == {(0, 14, start) for start in range(4)}
    assert bed.changes("gpu-3") > changes
    assert bed.slice_of(busy) == before

    await bed.end("default/wide")
    await bed.running(await bed.submit("half", "2g.12gb", node="gpu-3"))
    assert (0, 5, 2) in bed.slices("gpu-3")
    assert bed.slice_of(busy) == before
    assert bed.view.pods["default/busy"].running_at == busy.running_at
    assert busy.phase == "Running"
    assert bed.cluster.nodes["gpu-3"].counters().killed == killed + 1  # the wide one, which was deleted


async def test_a_whole_gpu_is_re_cut_while_the_other_gpu_of_the_node_works(bed: Bed) -> None:
    await bed.lay_out("gpu-1", [(9, 0), (9, 4)], [(0, 0)])
    busy = await bed.running(await bed.submit("busy", "7g.80gb", node="gpu-1"))
    before = bed.slice_of(busy)

    await bed.running(await bed.submit("small", "1g.10gb", 7, node="gpu-1"))
    assert bed.slices("gpu-1").keys() == {(1, 0, 0)} | {(0, 19, start) for start in range(7)}
    assert bed.slice_of(busy) == before


async def test_a_pod_whose_slice_is_there_and_idle_runs_without_any_change(bed: Bed) -> None:
    await bed.lay_out("gpu-1", [(9, 0), (9, 4)], [])
    changes = bed.changes("gpu-1")
    hardware = bed.hardware("gpu-1")
    slices = bed.slices("gpu-1")

    first = await bed.running(await bed.submit("first", "3g.40gb"))
    second = await bed.running(await bed.submit("second", "3g.40gb"))
    assert {first.info.node_name, second.info.node_name} == {"gpu-1"}
    assert {*first.devices, *second.devices} == {each.uuid for each in slices.values()}
    await bed.end("default/first")
    third = await bed.running(await bed.submit("third", "3g.40gb"))
    assert third.devices == first.devices

    assert bed.changes("gpu-1") == changes
    assert bed.hardware("gpu-1") == hardware


async def test_pods_that_come_at_once_get_their_slices_in_few_changes(bed: Bed) -> None:
    before = sum(bed.changes(node) for node in bed.cluster.nodes)
    keys = [await bed.submit(f"pod-{number}", "1g.10gb") for number in range(7)]
    keys += [await bed.submit("wide", "4g.40gb")]
    pods = [await bed.running(key) for key in keys]
    assert len({uuid for pod in pods for uuid in pod.devices}) == 8
    assert sum(bed.changes(node) for node in bed.cluster.nodes) - before <= 6
