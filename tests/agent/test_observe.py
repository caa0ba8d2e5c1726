"""Looking at a node: the driver's word joined with the kubelet's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cdmo.agent.observe import Observation, Observer
from cdmo.errors import DriverUnavailable, KubeletUnavailable
from cdmo.model.gpu import DeviceState, MigMode, Placement, PodKey
from tests.agent.nodes import BUS, ONE, THREE, THREE_HIGH, THREE_LOW, Rig, pod


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, THREE_LOW, THREE_HIGH)
    yield made
    made.worker.close()


def observer(rig: Rig) -> Observer:
    return Observer(rig.gpus, rig.node, rig.worker, lambda: tuple(rig.node.pods.values()))


def states(observation: Observation) -> dict[Placement, DeviceState]:
    return {each.placement: observation.state_of(each) for gpu in observation.driver.gpus for each in gpu.instances}


async def test_a_slice_is_in_use_by_its_pod_by_a_process_or_idle(rig: Rig) -> None:
    rig.node.admit(pod("train", {THREE: 1}), {THREE: [rig.uuids[THREE_LOW]]})
    assert states(await observer(rig).look()) == {
        THREE_LOW: DeviceState.IN_USE,
        THREE_HIGH: DeviceState.IDLE,
    }
    rig.gpus.add_process(rig.uuids[THREE_HIGH], 4711)
    assert states(await observer(rig).look())[THREE_HIGH] is DeviceState.IN_USE


async def test_an_instance_without_a_compute_instance_is_broken(rig: Rig) -> None:
    rig.gpus.gpu(BUS).hollow.add(1)
    assert states(await observer(rig).look())[THREE_LOW] is DeviceState.BROKEN


async def test_an_idle_slice_that_an_error_hit_is_unhealthy_and_one_in_use_stays_in_use(rig: Rig) -> None:
    rig.gpus.gpu(BUS).slice_faults |= {1: "XID 94", 2: "XID 94"}
    rig.node.admit(pod("train", {THREE: 1}), {THREE: [rig.uuids[THREE_LOW]]})
    looked = await observer(rig).look()
    assert states(looked) == {THREE_LOW: DeviceState.IN_USE, THREE_HIGH: DeviceState.UNHEALTHY}
    assert looked.doubtful_devices() == frozenset(rig.uuids.values())


async def test_what_nobody_is_to_get_may_be_listed_or_not_and_nothing_else_may_differ(rig: Rig) -> None:
    low, high = rig.uuids[THREE_LOW], rig.uuids[THREE_HIGH]
    rig.gpus.gpu(BUS).slice_faults[1] = "XID 94"
    looked = await observer(rig).look()
    assert looked.disagreement({THREE: frozenset({low, high})}) == frozenset()
    assert looked.disagreement({THREE: frozenset({high})}) == frozenset()
    assert looked.disagreement({THREE: frozenset({low})}) == {high}
    assert looked.disagreement({THREE: frozenset({high, "MIG-gone"}), ONE: frozenset()}) == {"MIG-gone"}
    assert looked.disagreement({"nvidia.com/gpu": frozenset({"GPU-1"})}) == {high}


async def test_a_gpu_in_trouble_makes_all_its_devices_doubtful_and_only_a_silent_one_holds_the_node(rig: Rig) -> None:
    rig.gpus.gpu(BUS).faults = ("XID 95: reset it",)
    looked = await observer(rig).look()
    assert looked.doubtful_devices() == frozenset(rig.uuids.values())
    assert looked.hold == ""
    rig.gpus.gpu(BUS).lost = True
    looked = await observer(rig).look()
    assert looked.doubtful_devices() == frozenset(rig.uuids.values())
    assert BUS in looked.hold


async def test_gpus_that_never_answered_hold_the_node_too(rig: Rig) -> None:
    driver = replace((await observer(rig).look()).driver, silent=2)
    assert "2 GPUs have not answered" in Observation(driver, {}).hold


async def test_a_look_asks_only_for_bound_unfinished_pods_that_want_gpus_and_never_lists(rig: Rig) -> None:
    train = pod("train", {THREE: 1})
    rig.node.admit(train, {THREE: [rig.uuids[THREE_LOW]]})
    rig.node.admit(pod("web", {"cpu": 100}), {})
    rig.node.bind(pod("done", {THREE: 1}, phase="Succeeded"))
    rig.node.pods[("ml", "nominated")] = pod("nominated", {THREE: 1})
    rig.node.calls.clear()
    observation = await observer(rig).look()
    assert rig.node.calls == ["get"]
    assert observation.holders == {rig.uuids[THREE_LOW]: train.key}


async def test_a_pods_own_status_tells_its_devices_when_the_kubelet_does_not(rig: Rig) -> None:
    train = replace(pod("train", {THREE: 1}), devices=((THREE, (rig.uuids[THREE_HIGH],)),))
    rig.node.bind(train)
    assert (await observer(rig).look()).holders == {rig.uuids[THREE_HIGH]: train.key}
    rig.node.bind(train)
    assert (await observer(rig).look_fenced(tuple(rig.node.pods.values()))).holders == {
        rig.uuids[THREE_HIGH]: train.key
    }


async def test_a_fenced_look_shows_pods_nobody_told_us_of(rig: Rig) -> None:
    known = pod("known", {THREE: 1})
    rig.node.admit(known, {THREE: [rig.uuids[THREE_LOW]]})
    rig.node.shown[("kube-system", "static")] = {THREE: (rig.uuids[THREE_HIGH],)}
    observation = await observer(rig).look_fenced((rig.node.pods[("ml", "known")],))
    assert observation.holders == {
        rig.uuids[THREE_LOW]: known.key,
        rig.uuids[THREE_HIGH]: PodKey("kube-system", "static"),
    }


async def test_a_finished_pods_status_holds_nothing(rig: Rig) -> None:
    done = replace(pod("done", {THREE: 1}, phase="Failed"), devices=((THREE, (rig.uuids[THREE_LOW],)),))
    rig.node.bind(done)
    assert (await observer(rig).look()).holders == {}
    assert (await observer(rig).look_fenced(tuple(rig.node.pods.values()))).holders == {}


async def test_the_plugin_is_expected_to_serve_whole_instances_of_gpus_with_mig_on(rig: Rig) -> None:
    observation = await observer(rig).look()
    assert observation.expected_devices() == {THREE: frozenset(rig.uuids.values())}
    rig.gpus.gpu(BUS).hollow.add(1)
    assert (await observer(rig).look()).expected_devices() == {THREE: {rig.uuids[THREE_HIGH]}}
    rig.gpus.gpu(BUS).mig_mode = MigMode.DISABLED
    assert (await observer(rig).look()).expected_devices() == {}


async def test_a_silent_kubelet_and_a_missing_driver_are_failures_with_names(rig: Rig) -> None:
    rig.node.admit(pod("train", {ONE: 1}), {})
    rig.node.fails["get"] = [KubeletUnavailable("no socket")]
    with pytest.raises(KubeletUnavailable):
        await observer(rig).look()
    rig.gpus.fail("read", DriverUnavailable("no library"))
    with pytest.raises(DriverUnavailable):
        await observer(rig).look()
