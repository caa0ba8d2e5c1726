"""How far a node is on its way to CDMO or back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from cdmo.api.v1alpha1 import AgentInfo, Condition, Metadata, MigNode, MigNodeStatus, ObservedGpu, ObservedModel
from cdmo.handover.port import NodePod
from cdmo.handover.standing import (
    Standing,
    can_be_cut,
    capable_gpus,
    giving_back,
    is_whole,
    taking_up,
    users_of,
    whole_gpus_offered,
)
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import MigMode, PodKey
from cdmo.model.policy import AGENT_SILENT_AFTER
from tests.handover.cluster import CUT, SLICE, UNCUT, WHOLE

NOW = 1_750_000_000.0
ON, OFF = MigMode.ENABLED, MigMode.DISABLED
NO_CARD = 7  # index of a model that is not reported


def beat(seconds_ago: float = 0.0) -> str:
    return (datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=seconds_ago)).isoformat().replace("+00:00", "Z")


def gpu(mode: str, number: int = 0, model: int = 0) -> ObservedGpu:
    return ObservedGpu(pci_bus_id=f"00000000:{number}0:00.0", uuid=f"GPU-{number}", model=model, mig_mode=mode)


def node(
    *modes: str,
    heartbeat: str | None = None,
    seen: int = 2,
    conditions: tuple[Condition, ...] = (),
    models: tuple[ObservedModel, ...] = (CUT,),
    more: tuple[ObservedGpu, ...] = (),
) -> MigNode:
    """A MigNode of generation 2 with an agent that lives; `more` GPUs beside those that can be cut."""
    gpus = (*(gpu(mode, number) for number, mode in enumerate(modes)), *more)
    agent = AgentInfo(version="1", heartbeat=beat() if heartbeat is None else heartbeat)
    status = MigNodeStatus(observed_generation=seen, agent=agent, models=models, gpus=gpus, conditions=conditions)
    return MigNode(metadata=Metadata(name="gpu-1", generation=2), status=status)


def condition(kind: str, reason: str, message: str = "") -> Condition:
    return Condition(type=kind, status="False", reason=reason, message=message)


def standings(mignode: MigNode) -> tuple[Standing, ...]:
    """In every direction."""
    return (
        giving_back(mignode, NOW),
        taking_up(mignode, NOW, switches=True),
        taking_up(mignode, NOW, switches=False),
    )


# --- what is known of the agent -----------------------------------------------------------------------------


def test_an_agent_that_never_reported_is_waited_for() -> None:
    assert set(standings(MigNode(metadata=Metadata(generation=1)))) == {Standing("its agent has not reported yet")}


def test_an_agent_that_has_not_taken_up_the_newest_word_is_waited_for() -> None:
    assert set(standings(node(ON, OFF, seen=1))) == {Standing("its agent has not taken it up yet")}


def test_an_agent_that_is_silent_is_told_of_with_how_long() -> None:
    silent = node(ON, heartbeat=beat(AGENT_SILENT_AFTER + 1), seen=1)
    assert set(standings(silent)) == {Standing("its agent has been silent for 46 s: does its pod run?")}


@pytest.mark.parametrize("heartbeat", [beat(AGENT_SILENT_AFTER), beat(-3600), "", "soon", "0001-01-01T00:00:00"])
def test_one_that_beats_in_time_or_whose_clock_is_odd_is_believed(heartbeat: str) -> None:
    assert giving_back(node(OFF, heartbeat=heartbeat), NOW).done


@pytest.mark.parametrize(
    "look",
    [lambda it: giving_back(it, NOW), lambda it: taking_up(it, NOW, switches=True)],
    ids=["giving back", "taking up"],
)
def test_an_agent_that_has_not_seen_its_gpus_yet_is_not_at_the_end(look: Callable[[MigNode], Standing]) -> None:
    """It reports at once and says in Ready that there is no driver yet: no GPU is known, so none is in its mode."""
    no_driver = condition("Ready", "DriverUnavailable", "no usable libnvidia-ml.so.1")
    driverless = node(conditions=(no_driver,), models=())
    standing = look(driverless)
    assert not standing.done, standing.sentence
    assert "no usable libnvidia-ml.so.1" in standing.sentence


# --- on the way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modes", "sentence", "done"),
    [
        ((ON, ON), "MIG mode is on on 2 of 2 GPUs", True),
        ((ON, OFF), "MIG mode is on on 1 of 2 GPUs", False),
        ((OFF, "a word of a later version"), "MIG mode is on on 0 of 2 GPUs", False),
    ],
)
def test_a_node_is_taken_up_when_mig_mode_is_on_everywhere(modes: tuple[str, str], sentence: str, done: bool) -> None:
    assert taking_up(node(*modes), NOW, switches=True) == Standing(sentence, done=done)


@pytest.mark.parametrize(
    ("modes", "sentence", "done"),
    [
        ((OFF, OFF), "MIG mode is off on 2 of 2 GPUs", True),
        ((ON, OFF), "MIG mode is off on 1 of 2 GPUs", False),
    ],
)
def test_a_node_is_given_back_when_it_is_off_everywhere(modes: tuple[str, str], sentence: str, done: bool) -> None:
    assert giving_back(node(*modes), NOW) == Standing(sentence, done=done)
    assert is_whole(node(*modes)) is done


def test_by_hand_a_node_is_taken_up_whatever_its_modes_are() -> None:
    standing = taking_up(node(ON, OFF, MigMode.ENABLE_PENDING), NOW, switches=False)
    assert standing == Standing("MIG mode is on on 1 of 3 GPUs; the others stay whole", done=True)


def test_cards_without_mig_do_not_count() -> None:
    beside = node(ON, models=(CUT, UNCUT), more=(gpu(MigMode.UNSUPPORTED, 5, model=1), gpu(OFF, 6, model=NO_CARD)))
    assert taking_up(beside, NOW, switches=True) == Standing("MIG mode is on on 1 of 1 GPUs", done=True)
    assert (capable_gpus(beside), can_be_cut(beside), is_whole(beside)) == (1, True, False)


def test_whether_anything_can_be_cut_is_open_until_a_gpu_was_seen() -> None:
    assert can_be_cut(node())
    assert not can_be_cut(node(MigMode.UNSUPPORTED, models=(UNCUT,)))
    assert not can_be_cut(node(more=(gpu(OFF, model=NO_CARD),)))


def test_what_the_agent_says_of_the_modes_is_told() -> None:
    busy = condition("MigModeSettled", "Waiting", "GPU 10 is held as a whole by pod ml/a")
    standing = taking_up(node(ON, OFF, conditions=(busy,)), NOW, switches=True)
    assert standing == Standing("MIG mode is on on 1 of 2 GPUs: GPU 10 is held as a whole by pod ml/a")


@pytest.mark.parametrize(("pending", "look"), [(MigMode.ENABLE_PENDING, True), (MigMode.DISABLE_PENDING, False)])
def test_a_mode_that_is_only_noted_needs_somebody_for_a_reboot_or_a_reset(pending: MigMode, look: bool) -> None:
    noted = node(ON if look else OFF, pending)
    standing = taking_up(noted, NOW, switches=True) if look else giving_back(noted, NOW)
    assert not standing.done
    assert standing.needs == "reboot the node, or have its GPUs reset (`--reset`)"


@pytest.mark.parametrize(("pending", "look"), [(MigMode.DISABLE_PENDING, True), (MigMode.ENABLE_PENDING, False)])
def test_a_note_of_the_other_direction_is_taken_back_by_the_agent_itself(pending: MigMode, look: bool) -> None:
    noted = node(pending)
    standing = taking_up(noted, NOW, switches=True) if look else giving_back(noted, NOW)
    assert (standing.done, standing.needs) == (False, "")


def test_a_reset_that_nobody_allowed_needs_somebody() -> None:
    forbidden = condition("MigModeSettled", "ResetNeeded", "MIG mode needs a reset of the GPU")
    standing = taking_up(node(OFF, conditions=(forbidden,)), NOW, switches=True)
    assert standing.needs.startswith("allow the reset (`--reset`)")
    assert standing.sentence == "MIG mode is on on 0 of 1 GPUs: MIG mode needs a reset of the GPU"


def test_what_keeps_the_agent_from_its_work_is_told_once() -> None:
    broken = condition("Ready", "KubeletUnavailable", "the kubelet does not answer")
    sentence = "MIG mode is off on 0 of 1 GPUs; the kubelet does not answer"
    assert giving_back(node(ON, conditions=(broken,)), NOW) == Standing(sentence)
    said = condition("MigModeSettled", "Waiting", "the kubelet does not answer for now")
    assert giving_back(node(ON, conditions=(broken, said)), NOW).sentence.count("the kubelet does not answer") == 1


def test_a_trouble_without_words_is_told_by_its_reason() -> None:
    standing = giving_back(node(ON, conditions=(condition("Ready", "DriverHung"),)), NOW)
    assert standing.sentence == "MIG mode is off on 0 of 1 GPUs; DriverHung"


@pytest.mark.parametrize("reason", ["Ready", "Disabled"])
def test_that_the_node_is_disabled_is_no_trouble(reason: str) -> None:
    fine = condition("Ready", reason, "1 of 2 GPUs are whole: this node is disabled")
    assert giving_back(node(ON, conditions=(fine,)), NOW).sentence == "MIG mode is off on 0 of 1 GPUs"


# --- the Node and its pods ----------------------------------------------------------------------------------


def pod(name: str, phase: str = "Running", owner: str = "", **requests: int) -> NodePod:
    names = {"slice": SLICE, "whole": WHOLE, "cpu": "cpu"}
    asked = {names[each]: count for each, count in requests.items()}
    return NodePod(PodInfo(PodKey("ml", name, f"uid-{name}"), phase=phase, requests=asked), owner)


def test_the_pods_that_use_gpus_are_named_in_order_with_what_they_ask_for() -> None:
    pods = (pod("b", slice=1, whole=2, cpu=1000), pod("a", "Pending", slice=2), pod("c", cpu=4000), pod("d"))
    assert [str(each) for each in users_of(pods)] == [
        f"ml/a (2 {SLICE})",
        f"ml/b (2 {WHOLE}, 1 {SLICE})",
    ]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_uses_nothing(phase: str) -> None:
    assert users_of((pod("a", phase, slice=1),)) == ()


def test_a_pod_that_asks_for_none_of_a_resource_uses_nothing() -> None:
    assert users_of((pod("a", slice=0),)) == ()


@pytest.mark.parametrize(("owner", "comes_back"), [("DaemonSet", True), ("ReplicaSet", False), ("", False)])
def test_only_a_daemonset_makes_its_pod_anew_on_the_same_node(owner: str, comes_back: bool) -> None:
    assert [each.comes_back for each in users_of((pod("a", owner=owner, slice=1),))] == [comes_back]


def test_whole_gpus_are_counted_by_whatever_name_they_are_offered() -> None:
    allocatable = {WHOLE: 2, "nvidia.com/gpu.shared": 4, SLICE: 3, "cpu": 8000}
    assert whole_gpus_offered(NodeInfo("gpu-1", allocatable=allocatable)) == 6
    assert whole_gpus_offered(NodeInfo("gpu-1")) == 0
