"""What the agent tells the cluster about its changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as changed

from cdmo.agent import events
from cdmo.agent.change import Outcome, Result
from cdmo.api.convert import model_to_api
from cdmo.api.v1alpha1 import Metadata, MigNode, MigNodeStatus, ObservedDevice, ObservedGpu, PodReference
from cdmo.model.cluster import NodeInfo
from cdmo.model.reasons import EventReason
from tests.fakes.cards import card

BUS = "00000000:10:00.0"
NODE = NodeInfo("gpu-1", uid="node-uid")


@pytest.mark.parametrize(
    ("outcome", "reasons"),
    [
        (Outcome(Result.APPLIED), [EventReason.REPARTITIONED]),
        (Outcome(Result.UNNEEDED), []),
        (Outcome(Result.REFUSED, "held by pod ml/train"), [EventReason.REPARTITION_FAILED]),
        (Outcome(Result.FAILED, "stuck", still_fenced=True), [EventReason.PLUGIN_STUCK]),
        (Outcome(Result.APPLIED, fence_lapsed=True), [EventReason.REPARTITIONED, EventReason.FENCE_LAPSED]),
    ],
)
def test_each_end_of_a_change_is_told_once_on_the_node(outcome: Outcome, reasons: list[EventReason]) -> None:
    told = list(events.of_change(NODE, outcome))
    assert [each.reason for each in told] == reasons
    assert all((each.involved.kind, each.involved.name) == ("Node", "gpu-1") for each in told)


def test_a_refusal_says_what_stood_in_the_way() -> None:
    (event,) = events.of_change(NODE, Outcome(Result.REFUSED, "held by pod ml/train"))
    assert (event.message, event.warning) == ("held by pod ml/train", True)


def test_a_spec_that_cannot_be_carried_out_is_told_on_the_mignode() -> None:
    event = events.bad_spec(MigNode(metadata=Metadata(name="gpu-1", uid="u")), "profile 77 is not there")
    assert (event.involved.kind, event.reason, event.message) == (
        "MigNode",
        EventReason.BAD_SPEC,
        "profile 77 is not there",
    )


def reported(problem: str = "", slice_problem: str = "", pod: str = "") -> MigNodeStatus:
    """The status of a node with one GPU and one slice, which a pod may hold."""
    holder = PodReference(namespace="ml", name=pod, uid=f"uid-{pod}") if pod else None
    device = ObservedDevice(profile_id=9, start=4, uuid="MIG-1", pod=holder, problem=slice_problem)
    return MigNodeStatus(
        models=(model_to_api(card("H100-SXM5-80GB").model),),
        gpus=(
            ObservedGpu(
                pci_bus_id=BUS, uuid="GPU-1", model=0, mig_mode="Enabled", devices=(device,), problem=problem
            ),
        ),
    )


def told(before: MigNodeStatus, now: MigNodeStatus) -> list[tuple[str, str, str]]:
    """Reason, object and message of each Event."""
    found = events.of_health(NODE, before, now)
    return [(each.reason, f"{each.involved.kind} {each.involved.name}", each.message) for each in found]


def test_a_gpu_that_went_wrong_is_told_on_the_node_and_on_every_pod_that_uses_it() -> None:
    now = reported(problem="XID 95: reset it", pod="train")
    place = f"slice 3g.40gb at slot 4 of GPU {BUS}"
    assert told(reported(pod="train"), now) == [
        ("GpuUnhealthy", "Node gpu-1", f"GPU {BUS} is out of use: XID 95: reset it"),
        ("GpuUnhealthy", "Pod train", f"its {place} on node gpu-1 is not to be relied on: XID 95: reset it"),
    ]
    assert told(now, now) == [], "once"
    assert all(each.warning for each in events.of_health(NODE, reported(), now))


def test_a_slice_that_went_wrong_and_its_recovery_are_told() -> None:
    now = reported(slice_problem="XID 94", pod="train")
    place = f"slice 3g.40gb at slot 4 of GPU {BUS}"
    assert [each[:2] for each in told(reported(pod="train"), now)] == [
        ("GpuUnhealthy", "Node gpu-1"),
        ("GpuUnhealthy", "Pod train"),
    ]
    assert told(now, reported()) == [("GpuRecovered", "Node gpu-1", f"{place} is back in use")]


def test_a_pod_that_comes_to_a_slice_in_trouble_is_told_too_and_only_it() -> None:
    first, second = reported(slice_problem="XID 94", pod="a"), reported(slice_problem="XID 94", pod="b")
    assert [each[1] for each in told(first, second)] == ["Pod b"]


def test_more_trouble_is_told_and_a_slice_that_is_gone_is_nobodys_recovery() -> None:
    worse = reported(problem="XID 95; XID 119")
    assert [each[0] for each in told(reported(problem="XID 95"), worse)] == ["GpuUnhealthy"]
    assert told(reported(slice_problem="XID 94"), MigNodeStatus()) == []


def test_a_slice_of_a_profile_that_is_not_reported_is_named_by_its_number() -> None:
    now = changed(reported(slice_problem="XID 94"), models=())
    assert told(reported(), now)[0][2].startswith("slice of profile 9 at slot 4 of GPU")
