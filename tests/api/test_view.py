"""A Node and its MigNode as the planner sees them: managed or not, well or not, what was asked and what is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from cdmo.api.v1alpha1 import Condition, GpuLayout, MigNode, MigNodeSpec, Mode, PlacedProfile
from cdmo.api.view import view_of
from cdmo.model.names import PARTITIONING_LABEL
from tests.builders import BUS, IDLE, at, h100, node, pod, resource
from tests.controller.bench import mignode_of


def with_condition(status: str, reason: str, kind: str = "Ready") -> MigNode:
    mignode = mignode_of(node("gpu-1", [h100()]))
    condition = Condition(type=kind, status=status, reason=reason, message="a sentence")
    return changed(mignode, status=changed(mignode.status, conditions=(condition,)))


def test_a_node_is_managed_while_it_has_the_label_and_the_mode() -> None:
    view = node("gpu-1", [h100()])
    mignode = mignode_of(view)
    assert view_of(view.node, mignode, True).managed
    assert not view_of(replace(view.node, labels={}), mignode, True).managed
    assert not view_of(replace(view.node, labels={PARTITIONING_LABEL: "none"}), mignode, True).managed
    assert not view_of(view.node, changed(mignode, spec=MigNodeSpec(mode=Mode.DISABLED)), True).managed


def test_a_view_shows_what_was_asked_and_what_is_there() -> None:
    built = node("gpu-1", [h100(slices={"1g.10gb@6": "ml/old"}, desired=["1g.10gb@6", "3g.40gb@0"])])
    seen = view_of(built.node, mignode_of(built), True)
    assert seen.desired == {BUS[0]: (at("3g.40gb@0"), at("1g.10gb@6"))}
    assert seen.gpus == built.gpus
    assert seen.models == built.models


@pytest.mark.parametrize("reason", ["DriverUnavailable", "DevicePluginStuck", "KubeletUnavailable"])
def test_an_unwell_node_says_why(reason: str) -> None:
    assert view_of(node("gpu-1").node, with_condition("False", reason), True).problem == "a sentence"


@pytest.mark.parametrize("reason", ["ChangeFailed", "BadSpec"])
def test_a_failed_change_and_a_bad_spec_are_planned_around(reason: str) -> None:
    assert view_of(node("gpu-1").node, with_condition("False", reason), True).problem == ""


def test_a_condition_that_does_not_speak_of_readiness_is_no_problem() -> None:
    assert view_of(node("gpu-1").node, with_condition("True", "Ready"), True).problem == ""
    assert view_of(node("gpu-1").node, with_condition("False", "Idle", "Repartitioning"), True).problem == ""


def test_a_spec_that_contradicts_itself_stops_planning_on_that_node_with_its_field() -> None:
    mignode = mignode_of(node("gpu-1", [h100()]))
    twice = GpuLayout(pci_bus_id=BUS[0], layout=(PlacedProfile(profile_id=19, start=0),) * 2)
    seen = view_of(node("gpu-1").node, changed(mignode, spec=MigNodeSpec(gpus=(twice,))), True)
    assert seen.desired == {}
    assert "spec.gpus[0].layout" in seen.problem


def test_the_pods_of_a_node_are_those_that_are_bound_to_it() -> None:
    view = node("gpu-1", [h100()])
    there = pod("old", "1g.10gb", on="gpu-1")
    assert view_of(view.node, mignode_of(view), True, [there]).pods == (there,)
    assert view_of(view.node, mignode_of(view), True).pods == ()


def test_a_node_whose_agent_is_silent_is_seen_so() -> None:
    view = node("gpu-1", [h100()])
    assert view_of(view.node, mignode_of(view), True).alive
    assert not view_of(view.node, mignode_of(view), False).alive


def test_slices_out_of_use_that_pods_hold_are_out_of_the_schedulers_reach() -> None:
    host = node(
        "gpu-1", [h100({"3g.40gb@0": "ml/a", "1g.10gb@4": "ml/b", "1g.10gb@5": IDLE}), h100({"3g.40gb@0": "ml/c"})]
    )
    mignode = mignode_of(host)
    assert view_of(host.node, mignode, True).out_of_reach == {}
    first, second = mignode.status.gpus
    devices = tuple(changed(each, problem="XID 94" if each.profile_id == 19 else "") for each in first.devices)
    gpus = (changed(first, devices=devices), changed(second, problem="XID 95"))
    sick = changed(mignode, status=changed(mignode.status, gpus=gpus))
    assert view_of(host.node, sick, True).out_of_reach == {resource("1g.10gb"): 1, resource("3g.40gb"): 1}
