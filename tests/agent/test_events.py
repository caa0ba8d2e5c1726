"""What the agent tells the cluster about its changes."""

from __future__ import annotations

import pytest

from cdmo.agent import events
from cdmo.agent.change import Outcome, Result
from cdmo.api.v1alpha1 import Metadata, MigNode
from cdmo.model.cluster import NodeInfo
from cdmo.model.reasons import EventReason

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
