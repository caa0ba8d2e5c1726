"""What counts as the middle of a change, and what is said to stay."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from cdmo.api.v1alpha1 import (
    AgentInfo,
    Condition,
    Metadata,
    MigNode,
    MigNodeSpec,
    MigNodeStatus,
    Mode,
    ObservedDevice,
    ObservedGpu,
)
from cdmo.doctor.settling import Remains, remains, told, unsettled
from cdmo.model.cluster import NodeInfo, Taint
from cdmo.model.policy import AGENT_SILENT_AFTER

NOW = 1_790_000_000.0
LABELS = {"cdmo.clear.ml/gpu-partitioning": "mig"}
TAINT = Taint("cdmo.clear.ml/repartitioning", "", "NoSchedule")


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def node(name: str = "gpu-1", *, fence: str = "", taints: tuple[Taint, ...] = (), labelled: bool = True) -> NodeInfo:
    labels = dict(LABELS) if labelled else {}
    return NodeInfo(name, labels={**labels, "cdmo.clear.ml/fenced": fence} if fence else labels, taints=taints)


def mignode(
    name: str = "gpu-1",
    *,
    silent: float = 3.0,
    changing: bool = False,
    reason: str = "Idle",
    message: str = "",
    behind: bool = False,
    mode: Mode = Mode.MANAGED,
    states: tuple[str, ...] = (),
) -> MigNode:
    """One that its agent reported `silent` seconds ago."""
    devices = tuple(ObservedDevice(profile_id=19, start=slot, state=state) for slot, state in enumerate(states))
    gpu = ObservedGpu(pci_bus_id="00000000:10:00.0", uuid="GPU-1", model=0, mig_mode="Enabled", devices=devices)
    condition = Condition(type="Repartitioning", status=str(changing), reason=reason, message=message)
    return MigNode(
        metadata=Metadata(name=name, generation=4),
        spec=MigNodeSpec(mode=mode),
        status=MigNodeStatus(
            observed_generation=3 if behind else 4,
            agent=AgentInfo(version="0.1.0", heartbeat=at(NOW - silent)),
            gpus=(gpu,),
            conditions=(condition,),
        ),
    )


def said(nodes: list[NodeInfo], mig_nodes: list[MigNode]) -> dict[str, str]:
    return {each.node: each.sentence for each in unsettled(nodes, mig_nodes, NOW)}


def test_a_node_at_rest_is_in_nobodys_way() -> None:
    assert said([node(), node("cpu-1", labelled=False)], [mignode()]) == {}


@pytest.mark.parametrize(
    ("fenced", "sentence"),
    [
        (node(fence="changing", taints=(TAINT,)), "its GPUs are being changed"),
        (node(fence="true", taints=(TAINT,)), "its fence is up"),
        (node(taints=(TAINT,)), "its fence is up"),
        (node(fence="true", labelled=False), "its fence is up"),
    ],
    ids=["changing", "raised", "the taint alone", "a node that lost the label"],
)
def test_a_fence_is_in_the_way_whatever_is_left_of_it(fenced: NodeInfo, sentence: str) -> None:
    assert said([fenced], [mignode()]) == {"gpu-1": sentence}


def test_another_taint_is_nobodys_fence() -> None:
    assert said([node(taints=(Taint("team", "a", "NoSchedule"),))], [mignode()]) == {}


def test_a_fence_that_nobody_will_lower_is_told_as_such() -> None:
    fenced = node(fence="changing")
    silent = mignode(silent=400)
    assert "its agent, which alone ends it, has been silent for 400 s" in said([fenced], [silent])["gpu-1"]
    assert "no agent has reported that could end it" in said([fenced], [])["gpu-1"]
    unreadable = replace(silent, status=replace(silent.status, agent=AgentInfo(version="1", heartbeat="yesterday")))
    assert "no agent has reported that could end it" in said([fenced], [unreadable])["gpu-1"]


def test_what_takes_too_long_is_told_in_the_agents_words() -> None:
    stuck = mignode(changing=True, reason="ChangeStuck", message="the phase reload has lasted since 10:00")
    assert said([node(fence="changing")], [stuck]) == {
        "gpu-1": "its GPUs are being changed (the phase reload has lasted since 10:00)"
    }


def test_an_agent_that_says_it_is_changing_is_believed_while_it_lives() -> None:
    assert said([node()], [mignode(changing=True)]) == {"gpu-1": "its agent says that it is changing"}
    assert said([node()], [mignode(changing=True, silent=AGENT_SILENT_AFTER + 1)]) == {}


def test_a_layout_that_was_not_taken_up_yet_is_waited_for() -> None:
    for mode in Mode:
        late = mignode(behind=True, mode=mode)
        assert said([node()], [late]) == {"gpu-1": "its agent has not taken up the newest layout yet"}


def test_a_node_that_is_still_being_left_clean_is_waited_for_while_its_agent_lives() -> None:
    leaving = NodeInfo("gpu-1", labels={"cdmo.clear.ml/managed": "true"})
    assert said([leaving], [mignode()]) == {"gpu-1": "it lost the label and its agent has not left it clean yet"}
    assert said([leaving], [mignode(silent=AGENT_SILENT_AFTER + 1)]) == {}


@pytest.mark.parametrize(
    ("lone", "idle"),
    [
        (node(labelled=False), mignode(behind=True)),
        (node(), mignode(behind=True, silent=AGENT_SILENT_AFTER + 1)),
    ],
    ids=["no label", "silent"],
)
def test_a_layout_that_nobody_will_take_up_is_not_waited_for(lone: NodeInfo, idle: MigNode) -> None:
    assert said([lone], [idle]) == {}


def test_the_nodes_come_by_name() -> None:
    fenced = [node(name, fence="true") for name in ("gpu-2", "gpu-10", "gpu-1")]
    assert list(said(fenced, [])) == ["gpu-1", "gpu-10", "gpu-2"]


def test_slices_and_their_pods_mignodes_and_labels_are_counted() -> None:
    nodes = [node("gpu-2"), node("gpu-1"), node("cpu-1", labelled=False)]
    reported = [mignode("gpu-1", states=("InUse", "Idle", "InUse")), mignode("gpu-2", states=("Idle",))]
    left = remains(nodes, [*reported, mignode("gpu-3")])
    assert left == Remains(slices=4, in_use=2, sliced_nodes=2, mig_nodes=3, labelled=("gpu-1", "gpu-2"))
    slices, objects, labels = told(left)
    assert slices == "Left as they are: 4 slices on 2 nodes. Pods use 2 of them and run on."
    assert objects.startswith("3 MigNodes and the CRD stay")
    assert labels.startswith("2 nodes with the label cdmo.clear.ml/gpu-partitioning (gpu-1, gpu-2): ")


def test_where_nothing_is_left_nothing_is_promised() -> None:
    assert list(told(remains([], []))) == ["There are no slices."]


def test_of_many_nodes_some_are_named() -> None:
    names = tuple(f"gpu-{number}" for number in range(8))
    (_, labels) = told(Remains(0, 0, 0, 0, names))
    assert (
        "8 nodes with the label cdmo.clear.ml/gpu-partitioning (gpu-0, gpu-1, gpu-2, gpu-3, gpu-4 and 3 more)"
        in labels
    )
