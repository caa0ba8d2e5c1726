"""The safety protocol, phase by phase: what happens, in which order, and what happens when something fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdmo.agent.change import Outcome, Phase, Result
from cdmo.api.convert import Withheld
from cdmo.errors import ClusterUnavailable, DriverFault, NoRoom
from cdmo.model.cluster import carries_fence
from cdmo.model.gpu import Placement
from cdmo.model.names import FENCE_LABEL
from tests.agent.nodes import BUS, ONE, SEVEN, THREE, THREE_HIGH, THREE_LOW, Rig, pod

ALL_PHASES = list(Phase)
NOTHING: Withheld = {}
SMALL_HIGH = Placement(19, 6)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, SEVEN)


async def run(rig: Rig, *layout: Placement, reload_anyway: bool = False, withheld: Withheld = NOTHING) -> Outcome:
    return await rig.change.run(rig.wanting(*layout), "boot", reload_anyway=reload_anyway, withheld=withheld)


async def test_a_change_goes_through_every_phase_in_order(rig: Rig) -> None:
    outcome = await run(rig, THREE_LOW, THREE_HIGH)
    assert outcome.result is Result.APPLIED
    assert rig.progress.phases == ALL_PHASES
    assert rig.layout() == {THREE_LOW, THREE_HIGH}
    assert rig.node.info.allocatable == {THREE: 2}
    assert not carries_fence(rig.node.info)
    assert rig.journal.read() is None


async def test_taint_and_label_go_up_at_once_and_the_taint_comes_down_last(rig: Rig) -> None:
    await run(rig, THREE_LOW)
    acts = [each for each in rig.node.calls if each in ("set_taint", "unfence", "remove_taint")]
    assert acts == ["set_taint", "unfence", "remove_taint"]


async def test_capacity_is_published_after_the_kubelet_lists_the_devices_and_inside_the_fence(rig: Rig) -> None:
    await run(rig, THREE_LOW)
    calls = rig.node.calls
    assert calls.index("reload") < calls.index("set_mig_capacity") < calls.index("unfence")


async def test_a_report_of_the_kubelet_that_comes_late_is_put_right_before_the_fence_falls(rig: Rig) -> None:
    def kubelet_reports(call: str) -> None:
        if call == "compare":
            stale = {**rig.node.info.allocatable, THREE: 7}
            rig.node.info = replace(rig.node.info, allocatable=stale)

    rig.node.on_call = kubelet_reports
    outcome = await run(rig, THREE_LOW, THREE_HIGH)
    assert outcome.result is Result.APPLIED
    assert rig.node.calls.count("set_mig_capacity") == 2
    assert rig.node.info.allocatable[THREE] == 2


async def test_what_is_withheld_is_kept_back_from_the_first_moment_after_the_change(tmp_path: Path) -> None:
    rig = Rig(tmp_path, THREE_LOW, SMALL_HIGH)
    rig.node.admit(pod("train", {THREE: 1}), {THREE: [rig.uuids[THREE_LOW]]})
    offered: list[int] = []

    def look(call: str) -> None:
        offered.extend([rig.node.info.allocatable[THREE]] if call == "unfence" else [])

    rig.node.on_call = look
    outcome = await run(rig, THREE_LOW, withheld={BUS: (THREE_LOW,)})
    assert outcome.result is Result.APPLIED
    assert offered == [0]
    assert rig.node.info.capacity[THREE] == 1


async def test_a_withheld_slice_still_covers_the_pod_that_is_bound_for_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, THREE_LOW, SMALL_HIGH)
    rig.node.admit(pod("train", {THREE: 1}), {THREE: [rig.uuids[THREE_LOW]]})
    rig.node.info = replace(rig.node.info, allocatable={THREE: 0, ONE: 0})
    assert (await run(rig, THREE_LOW, withheld={BUS: (THREE_LOW,)})).result is Result.APPLIED


async def test_resources_that_vanished_are_published_as_none(rig: Rig) -> None:
    rig.node.info = rig.node.info.__class__(
        rig.node.name, labels=rig.node.info.labels, capacity={"nvidia.com/mig-7g.80gb": 1, "cpu": 4}
    )
    await run(rig, THREE_LOW)
    assert rig.node.info.capacity == {"nvidia.com/mig-7g.80gb": 0, THREE: 1, "cpu": 4}


async def test_device_nodes_are_made_before_the_plugin_looks_again(rig: Rig) -> None:
    made_before_reload: list[int] = []
    rig.node.on_call = lambda call: (
        made_before_reload.append(len(rig.device_nodes.made)) if call == "reload" else None
    )
    await run(rig, THREE_LOW, THREE_HIGH)
    assert made_before_reload[0] >= 2


async def test_the_journal_is_on_disk_before_the_first_step(rig: Rig) -> None:
    seen: list[bool] = []
    original = rig.gpus.destroy

    def destroy(*arguments: Any) -> None:
        seen.append(rig.journal.read() is not None)
        original(*arguments)

    rig.gpus.destroy = destroy  # type: ignore[method-assign]
    await run(rig, THREE_LOW)
    assert seen == [True]


async def test_a_slice_taken_between_the_decision_and_the_fence_is_not_destroyed(rig: Rig) -> None:
    rig.node.admit(pod("train", {"nvidia.com/mig-7g.80gb": 1}), {"nvidia.com/mig-7g.80gb": [rig.uuids[SEVEN]]})
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.REFUSED
    assert "is held by pod ml/train" in outcome.message
    assert rig.layout() == {SEVEN}
    assert not carries_fence(rig.node.info)
    assert "reload" not in rig.node.calls


async def test_a_process_without_a_pod_keeps_its_slice(rig: Rig) -> None:
    rig.gpus.add_process(rig.uuids[SEVEN], 4711)
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.REFUSED
    assert "process 4711" in outcome.message
    assert rig.layout() == {SEVEN}


async def test_a_bound_pod_that_shows_no_devices_is_waited_for(rig: Rig) -> None:
    late = pod("late", {"nvidia.com/mig-7g.80gb": 1})
    rig.node.bind(late)
    lists = 0

    def admit_at_third_list(call: str) -> None:
        nonlocal lists
        lists += call == "list"
        if lists == 3:
            rig.node.admit(late, {"nvidia.com/mig-7g.80gb": [rig.uuids[SEVEN]]})

    rig.node.on_call = admit_at_third_list
    outcome = await run(rig, THREE_LOW)
    assert lists >= 3
    assert outcome.result is Result.REFUSED
    assert rig.layout() == {SEVEN}


async def test_a_bound_pod_that_never_shows_its_devices_stops_the_change(rig: Rig) -> None:
    rig.node.bind(pod("stuck", {"nvidia.com/mig-7g.80gb": 1}))
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.REFUSED
    assert "pod ml/stuck is bound to the node but shows no devices" in outcome.message
    assert "reload" not in rig.node.calls
    assert not carries_fence(rig.node.info)


async def test_idle_slices_beside_a_busy_one_are_recut(tmp_path: Path) -> None:
    rig = Rig(tmp_path, THREE_LOW, Placement(19, 4), Placement(19, 5))
    rig.node.admit(pod("train", {THREE: 1}), {THREE: [rig.uuids[THREE_LOW]]})
    outcome = await run(rig, THREE_LOW, THREE_HIGH)
    assert outcome.result is Result.APPLIED
    assert rig.layout() == {THREE_LOW, THREE_HIGH}
    assert rig.node.listed[THREE] >= {rig.uuids[THREE_LOW]}


async def test_a_step_that_fails_is_undone_and_the_plugin_still_looks_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, SEVEN)
    rig.gpus.fail("create", NoRoom("no room", code=23), nth=2)
    outcome = await run(rig, THREE_LOW, THREE_HIGH)
    assert outcome.result is Result.UNDONE
    assert "no room" in outcome.message
    assert rig.layout() == {SEVEN}
    assert "reload" in rig.node.calls
    assert not carries_fence(rig.node.info)
    assert rig.journal.read() is None


async def test_a_fence_that_does_not_rise_stops_everything(rig: Rig) -> None:
    rig.node.policy_installed = False
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.FAILED
    assert "was not live after 10 s" in outcome.message
    assert rig.layout() == {SEVEN}
    assert not carries_fence(rig.node.info)


async def test_a_fence_that_lapsed_is_reported(rig: Rig) -> None:
    def tear_down(call: str) -> None:
        if call == "set_mig_capacity":
            labels = {key: value for key, value in rig.node.info.labels.items() if key != FENCE_LABEL}
            rig.node.info = rig.node.info.__class__(rig.node.name, labels=labels)

    rig.node.on_call = tear_down
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.APPLIED
    assert outcome.fence_lapsed


async def test_a_plugin_that_does_not_come_back_keeps_the_fence_up(rig: Rig) -> None:
    rig.node.plugin_comes_back = False
    outcome = await run(rig, THREE_LOW)
    assert (outcome.result, outcome.still_fenced) == (Result.FAILED, True)
    assert "restart the kubelet" in outcome.message
    assert carries_fence(rig.node.info)
    assert rig.journal.read() is not None


async def test_when_the_plugin_is_back_the_same_change_ends_and_unfences(rig: Rig) -> None:
    rig.node.plugin_comes_back = False
    await run(rig, THREE_LOW)
    rig.node.plugin_comes_back = True
    outcome = await run(rig, THREE_LOW, reload_anyway=True)
    assert outcome.result is Result.APPLIED
    assert not carries_fence(rig.node.info)
    assert rig.layout() == {THREE_LOW}


async def test_without_a_device_plugin_nothing_is_offered_and_its_pod_may_come_back(rig: Rig) -> None:
    rig.node.plugin_runs = False
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.APPLIED
    assert "no process nvidia-device-plugin runs" in outcome.message
    assert not any(rig.node.info.allocatable.values())
    assert not carries_fence(rig.node.info)


async def test_a_full_disk_stops_the_change_before_anything_is_touched(tmp_path: Path) -> None:
    rig = Rig(tmp_path, SEVEN)
    (tmp_path / "journal.json.new").mkdir()
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.FAILED
    assert "journal" in outcome.message
    assert rig.layout() == {SEVEN}
    assert not carries_fence(rig.node.info)


async def test_an_api_server_that_is_away_before_the_journal_leaves_everything_as_it_is(rig: Rig) -> None:
    rig.node.fails["pods_on"] = [ClusterUnavailable("no answer")]
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.FAILED
    assert rig.layout() == {SEVEN}
    assert not carries_fence(rig.node.info)


async def test_an_api_server_that_is_away_at_the_end_leaves_the_fence_for_the_next_round(rig: Rig) -> None:
    rig.node.fails["unfence"] = [ClusterUnavailable("no answer")]
    outcome = await run(rig, THREE_LOW)
    assert (outcome.result, outcome.still_fenced) == (Result.FAILED, True)
    again = await run(rig, THREE_LOW, reload_anyway=True)
    assert again.result is Result.APPLIED
    assert not carries_fence(rig.node.info)


async def test_a_driver_that_fails_while_it_is_looked_at_inside_the_fence_changes_nothing(rig: Rig) -> None:
    rig.gpus.fail("read", DriverFault("unknown", code=999))
    outcome = await run(rig, THREE_LOW)
    assert outcome.result is Result.FAILED
    assert not carries_fence(rig.node.info)
    assert rig.layout() == {SEVEN}


async def test_nothing_left_to_do_inside_the_fence_is_no_change(rig: Rig) -> None:
    outcome = await run(rig, SEVEN)
    assert (outcome.result, outcome.message) == (Result.UNNEEDED, "")
    assert "reload" not in rig.node.calls


async def test_pods_bound_to_the_node_keep_enough_slices_of_what_they_ask_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Placement(19, 5), Placement(19, 6))
    rig.node.admit(pod("a", {ONE: 1}), {ONE: [rig.uuids[Placement(19, 5)]]})
    rig.node.pods[("ml", "nominated")] = pod("nominated", {ONE: 1})
    outcome = await run(rig, Placement(19, 5), THREE_LOW)
    assert outcome.result is Result.REFUSED
    assert f"ask for 2 {ONE}, only 1 would stay" in outcome.message
    assert rig.layout() == {Placement(19, 5), Placement(19, 6)}


def test_the_rig_is_on_the_bus_the_tests_name(rig: Rig) -> None:
    assert [each.pci_bus_id for each in rig.gpus.read().gpus] == [BUS]
