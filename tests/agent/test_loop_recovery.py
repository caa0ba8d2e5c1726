"""The agent's rounds after something went wrong: kills, reboots, slices made by hand, plugins that stay away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdmo.agent.steps import Action, Step
from cdmo.errors import ClusterUnavailable, DriverUnavailable, KubeletUnavailable
from cdmo.model.cluster import carries_fence
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.names import (
    FENCE_CHANGING,
    FENCE_LABEL,
    FENCE_VALUE,
    PARTITIONING_LABEL,
    PARTITIONING_VALUE,
    REPARTITIONING_TAINT,
)
from cdmo.model.reasons import EventReason
from tests.agent.bench import NAME, AgentBench
from tests.agent.nodes import BUS, SEVEN, THREE, THREE_HIGH, THREE_LOW, pod


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    made = AgentBench(tmp_path, THREE_LOW)
    yield made
    made.rig.worker.close()


async def left_fenced(bench: AgentBench) -> None:
    """A fence of an agent that is no more."""
    await bench.node.set_taint(NAME, REPARTITIONING_TAINT, "NoSchedule")
    await bench.node.set_labels(NAME, {FENCE_LABEL: FENCE_VALUE})
    bench.node.calls.clear()


async def test_a_journal_found_at_the_start_is_ended_even_without_steps(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    bench.rig.journal.write((Step(Action.CREATE, BUS, THREE_LOW),), "boot-1")
    bench.new_agent()
    await bench.run_until_reported()
    assert bench.node.calls.count("reload") == 1
    assert bench.rig.journal.read() is None
    assert not carries_fence(bench.node.info)
    assert bench.rig.layout() == {THREE_LOW}


async def test_a_half_made_instance_of_the_journal_is_made_anew(bench: AgentBench) -> None:
    await bench.round()
    made = bench.gpus.create(BUS, THREE_HIGH)
    bench.gpus.gpu(BUS).hollow.add(made.id)
    bench.want(THREE_LOW, THREE_HIGH)
    bench.rig.journal.write((Step(Action.CREATE, BUS, THREE_HIGH),), "boot-1")
    bench.new_agent()
    await bench.run_until_reported()
    assert bench.rig.layout() == {THREE_LOW, THREE_HIGH}
    assert not bench.gpus.gpu(BUS).hollow


async def test_a_half_made_instance_that_had_to_be_left_at_first_is_made_anew_later(bench: AgentBench) -> None:
    await bench.round()
    made = bench.gpus.create(BUS, THREE_HIGH)
    bench.gpus.gpu(BUS).hollow.add(made.id)
    bench.want(THREE_LOW, THREE_HIGH)
    bench.rig.journal.write((Step(Action.CREATE, BUS, THREE_HIGH),), "boot-1")
    bench.label()  # nothing is cut or destroyed without the label, but what was interrupted is ended
    bench.new_agent()
    await bench.run_until_reported()
    assert bench.rig.journal.read() is None
    assert bench.gpus.gpu(BUS).hollow == {made.id}
    bench.label(**{PARTITIONING_LABEL: PARTITIONING_VALUE})
    for _ in range(5):
        await bench.round(after=2.0)
    assert bench.rig.layout() == {THREE_LOW, THREE_HIGH}
    assert not bench.gpus.gpu(BUS).hollow


async def test_a_broken_instance_that_is_not_of_the_journal_is_left_alone(bench: AgentBench) -> None:
    made = bench.gpus.create(BUS, THREE_HIGH)
    bench.gpus.gpu(BUS).hollow.add(made.id)
    await bench.round()
    bench.want(THREE_LOW, THREE_HIGH)
    await bench.round()
    assert bench.gpus.gpu(BUS).hollow == {made.id}


async def test_a_fence_found_up_at_the_start_is_lowered(bench: AgentBench) -> None:
    await left_fenced(bench)
    await bench.run_until_reported()
    assert not carries_fence(bench.node.info)
    assert bench.rig.layout() == {THREE_LOW}


async def test_a_fence_without_a_journal_is_lowered_although_the_driver_does_not_answer(bench: AgentBench) -> None:
    await left_fenced(bench)
    bench.gpus.fail("read", DriverUnavailable("not loaded yet"))
    await bench.round()
    assert not carries_fence(bench.node.info)
    assert bench.condition().reason == "DriverUnavailable"


@pytest.mark.parametrize("fails", ["set_taint", "api_servers", "pods_on"])
async def test_a_fence_behind_which_something_was_touched_stands_without_a_journal_too(
    fails: str, bench: AgentBench
) -> None:
    """The disk with the journal was lost; the Node still says how far the change had come."""
    await left_fenced(bench)
    await bench.node.set_labels(NAME, {FENCE_LABEL: FENCE_CHANGING})
    bench.gpus.fail("read", DriverUnavailable("not loaded yet"))
    await bench.round()
    assert carries_fence(bench.node.info)
    bench.node.fails[fails] = [ClusterUnavailable("no answer")]
    await bench.round(after=2.0)
    assert carries_fence(bench.node.info)
    for _ in range(3):
        await bench.round(after=5.0)
    assert not carries_fence(bench.node.info)
    assert bench.node.calls.count("reload") == 1


async def test_a_fence_is_lowered_also_when_the_label_is_gone(bench: AgentBench) -> None:
    bench.label()
    await left_fenced(bench)
    await bench.run_until_reported()
    assert not carries_fence(bench.node.info)


async def test_a_fence_that_only_a_lagging_mirror_still_shows_is_not_raised_again(bench: AgentBench) -> None:
    await left_fenced(bench)
    bench.lagging_node = bench.node.info
    await bench.round()
    assert bench.fences() == 1
    for _ in range(5):
        await bench.round(after=2.0)
    assert bench.fences() == 1
    assert not carries_fence(bench.node.info)


async def test_slices_made_by_hand_beside_us_make_the_plugin_look_again_once(bench: AgentBench) -> None:
    await bench.round()
    bench.gpus.create(BUS, THREE_HIGH)
    for _ in range(10):
        await bench.round(after=2.0)
    assert bench.node.calls.count("reload") == 1
    assert len(bench.node.listed[THREE]) == 2
    assert bench.node.info.allocatable[THREE] == 2
    assert bench.rig.layout() == {THREE_LOW, THREE_HIGH}


async def test_a_slice_that_comes_and_goes_by_hand_is_noticed_each_time(bench: AgentBench) -> None:
    await bench.round()
    for number in range(1, 3):
        made = bench.gpus.create(BUS, THREE_HIGH)
        for _ in range(5):
            await bench.round(after=2.0)
        bench.gpus.destroy(BUS, made.id, THREE_HIGH)
        for _ in range(5):
            await bench.round(after=2.0)
        assert bench.node.calls.count("reload") == 2 * number


async def test_a_difference_that_does_not_last_disturbs_nobody(bench: AgentBench) -> None:
    await bench.round()
    listed, bench.node.listed = bench.node.listed, {}  # the plugin starts again by itself
    await bench.round(after=1.0)
    bench.node.listed = listed
    for _ in range(5):
        await bench.round(after=2.0)
    assert bench.fences() == 0


async def test_a_kubelet_that_does_not_answer_says_nothing_of_its_devices(bench: AgentBench) -> None:
    await bench.round()
    bench.gpus.create(BUS, THREE_HIGH)
    bench.node.fails["allocatable"] = [KubeletUnavailable("no socket") for _ in range(5)]
    for _ in range(5):
        await bench.round(after=2.0)
        assert bench.condition().reason == "KubeletUnavailable"
    await bench.round(after=2.0)
    assert bench.fences() == 0, "what could not be seen has not lasted"
    for _ in range(5):
        await bench.round(after=2.0)
    assert bench.node.calls.count("reload") == 1


async def test_a_reload_that_could_not_begin_is_tried_again(bench: AgentBench) -> None:
    await bench.round()
    bench.gpus.create(BUS, THREE_HIGH)
    bench.node.fails["pods_on"] = [ClusterUnavailable("no answer")]
    for _ in range(10):
        await bench.round(after=2.0)
    assert bench.node.calls.count("reload") == 1
    assert len(bench.node.listed[THREE]) == 2


async def test_a_stuck_plugin_keeps_fence_and_condition_until_it_is_back(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_HIGH)
    bench.node.plugin_comes_back = False
    await bench.round()
    for _ in range(4):
        assert (bench.condition().reason, bench.condition().status) == ("DevicePluginStuck", "False")
        assert "did not come back; restart the kubelet" in bench.condition().message
        assert carries_fence(bench.node.info)
        await bench.round(after=0.1)
    assert bench.events.of(EventReason.PLUGIN_STUCK)
    bench.node.plugin_comes_back = True
    await bench.round(after=60.0)
    assert not carries_fence(bench.node.info)
    assert bench.condition().status == "True"
    assert bench.rig.layout() == {THREE_HIGH}


async def test_a_stuck_plugin_is_asked_with_doubling_pauses_although_there_are_steps(bench: AgentBench) -> None:
    await bench.round()
    bench.node.plugin_comes_back = False
    bench.want(THREE_HIGH)
    await bench.round()
    bench.want(SEVEN)  # wanted, but the fence has to come down first
    tries = []
    for _ in range(400):
        await bench.round(after=0.1)
        tries.append(bench.node.calls.count("reload"))
    assert 4 <= tries[-1] <= 8


async def test_a_recovery_that_cannot_be_carried_out_keeps_the_fence(bench: AgentBench) -> None:
    """The kubelet may still offer what was destroyed: a pod bound now could be lost."""
    await bench.round()
    bench.rig.journal.write((Step(Action.DESTROY, BUS, THREE_HIGH),), "boot-1")
    await left_fenced(bench)
    bench.node.fails["pods_on"] = [ClusterUnavailable("no answer")]
    bench.new_agent()
    await bench.run_until_reported()
    assert carries_fence(bench.node.info)
    assert bench.rig.journal.read() is not None
    await bench.round(after=2.0)
    assert not carries_fence(bench.node.info)
    assert bench.rig.journal.read() is None


async def test_a_recovery_destroys_nothing_that_a_pod_holds(bench: AgentBench) -> None:
    await bench.round()
    bench.node.admit(pod("train", {THREE: 1}), {THREE: [bench.rig.uuids[THREE_LOW]]})
    bench.want(THREE_HIGH)
    bench.rig.journal.write((Step(Action.DESTROY, BUS, THREE_LOW), Step(Action.CREATE, BUS, THREE_HIGH)), "boot-1")
    bench.new_agent()
    await bench.run_until_reported()
    assert THREE_LOW in bench.rig.layout()
    assert not carries_fence(bench.node.info)


def rebooted(bench: AgentBench) -> None:
    bench.gpus.reboot()
    bench.boot_id = "boot-2"
    bench.node.listed = {}
    bench.new_agent()


async def test_after_a_reboot_mig_mode_and_layout_come_back(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW, Placement(19, 6))
    await bench.round()
    rebooted(bench)
    assert bench.gpus.gpu(BUS).mig_mode is MigMode.DISABLED
    await bench.round()
    assert bench.gpus.gpu(BUS).mig_mode is MigMode.ENABLED
    assert bench.rig.layout() == {THREE_LOW, Placement(19, 6)}


async def test_a_gpu_whose_mode_was_switched_off_without_a_reboot_is_left_so(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    bench.gpus.reboot()
    bench.new_agent()
    await bench.round()
    assert bench.gpus.gpu(BUS).mig_mode is MigMode.DISABLED
    assert "MIG mode is Disabled" in bench.condition().message


async def test_an_agent_that_starts_twice_before_the_driver_is_there_still_knows_of_the_reboot(
    bench: AgentBench,
) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    rebooted(bench)
    bench.gpus.fail("read", DriverUnavailable("not loaded yet"))
    await bench.round(after=20.0)
    assert bench.condition().reason == "DriverUnavailable"
    bench.new_agent()
    await bench.round()
    assert bench.rig.layout() == {THREE_LOW}
