"""Somebody who stole a node has its agent's token: what it can do to Nodes, its own and others."""

from __future__ import annotations

import pytest

from tests.access.acts import (
    PATCHES,
    RBAC,
    Attack,
    amounts,
    labels,
    metadata,
    on_node,
    on_node_status,
    on_other,
    own_capacity,
    own_label,
    own_taint,
    taints,
)
from tests.access.caller import APPLY, NODES, STRATEGIC, Act
from tests.access.scene import MIG, OTHERS_TAINT, OWN_TAINT, Scene

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

LABELS = "of its Node's labels an agent sets and removes"
METADATA = "no annotation, finalizer, owner or other metadata"
TAINTS = "of its Node's taints an agent adds or removes"
SPEC = "of its Node's spec an agent changes the taints only"
STATUS = "of its Node's status an agent changes capacity and allocatable only"
AMOUNTS = "an agent changes nvidia.com/mig-* only"
OTHERS = "an agent writes its own node's objects only"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-4000-8000-000000000000"}
CONDITION = {"type": "Ready", "status": "False", "reason": "Stolen", "message": ""}

ATTACKS = {
    "another label is added": Attack(on_node(labels(x="y")), LABELS, own_label),
    "a label is changed": Attack(on_node(labels(team="speech")), LABELS, own_label),
    "a label is removed": Attack(on_node(labels(team=None)), LABELS, own_label),
    "all labels are removed": Attack(on_node(metadata(labels=None)), LABELS, own_label),
    "the node leaves CDMO": Attack(on_node(labels(cdmo_gpu_partitioning=None)), LABELS, own_label),
    "it calls itself a control plane": Attack(
        on_node(metadata(labels={"node-role.kubernetes.io/control-plane": ""})), LABELS, own_label
    ),
    "the fence label gets another value": Attack(on_node(labels(cdmo_fenced="maybe")), LABELS, own_label),
    "the marker says that the node is changing": Attack(
        on_node(labels(cdmo_managed="changing")), LABELS, on_node(labels(cdmo_fenced="changing"))
    ),
    "the marker gets another value": Attack(
        on_node(labels(cdmo_managed="no")), LABELS, on_node(labels(cdmo_managed="true"))
    ),
    "another label rides with the fence's": Attack(on_node(labels(cdmo_fenced="true", x="y")), LABELS, own_label),
    "an annotation is added": Attack(on_node(metadata(annotations={"a": "b"})), METADATA, own_label),
    "an annotation is changed": Attack(
        on_node(metadata(annotations={"example.com/owner": "me"})), METADATA, own_label
    ),
    "all annotations are removed": Attack(on_node(metadata(annotations=None)), METADATA, own_label),
    "a finalizer is added": Attack(on_node(metadata(finalizers=["example.com/keep"])), METADATA, own_label),
    "an owner is added": Attack(on_node(metadata(ownerReferences=[OWNER])), METADATA, own_label),
    "another taint is added": Attack(
        on_node(taints(OTHERS_TAINT, {"key": "x", "effect": "NoExecute"})), TAINTS, own_taint
    ),
    "others' taints are removed": Attack(on_node(taints(OWN_TAINT)), TAINTS, own_taint),
    "all taints are removed": Attack(on_node({"spec": {"taints": None}}), TAINTS, own_taint),
    "others' taint gets another effect": Attack(
        on_node(taints({**OTHERS_TAINT, "effect": "PreferNoSchedule"})), TAINTS, own_taint
    ),
    "others' taint gets another value": Attack(on_node(taints({**OTHERS_TAINT, "value": "me"})), TAINTS, own_taint),
    "the taint throws pods out": Attack(
        on_node(taints(OTHERS_TAINT, {**OWN_TAINT, "effect": "NoExecute"})), TAINTS, own_taint
    ),
    "the taint throws pods out beside the right one": Attack(
        on_node(taints(OTHERS_TAINT, OWN_TAINT, {**OWN_TAINT, "effect": "NoExecute"})), TAINTS, own_taint
    ),
    "the taint gets a value": Attack(on_node(taints(OTHERS_TAINT, {**OWN_TAINT, "value": "x"})), TAINTS, own_taint),
    "the node is cordoned": Attack(on_node({"spec": {"unschedulable": True}}), SPEC, own_taint),
    "addresses of pods are claimed": Attack(
        on_node({"spec": {"podCIDR": "192.0.2.0/24", "podCIDRs": ["192.0.2.0/24"]}}), SPEC, own_taint
    ),
    "a machine of the provider is claimed": Attack(on_node({"spec": {"providerID": "p://1"}}), SPEC, own_taint),
    "more cpu": Attack(on_node_status(amounts(cpu="128")), AMOUNTS, own_capacity),
    "less cpu": Attack(on_node_status(amounts(cpu="1")), AMOUNTS, own_capacity),
    "less memory to give": Attack(
        on_node_status({"status": {"allocatable": {"memory": "1Gi"}}}), AMOUNTS, own_capacity
    ),
    "no cpu at all": Attack(on_node_status(amounts(cpu=None)), AMOUNTS, own_capacity),
    "whole GPUs": Attack(on_node_status(amounts(**{"nvidia.com/gpu": "8"})), AMOUNTS, own_capacity),
    "a resource that looks like a slice": Attack(
        on_node_status(amounts(**{"nvidia.com/migration": "1"})), AMOUNTS, own_capacity
    ),
    "another vendor's slice": Attack(
        on_node_status(amounts(**{"example.com/nvidia.com-mig-1g": "1"})), AMOUNTS, own_capacity
    ),
    "another device is added": Attack(on_node_status(amounts(**{"example.com/x": "1"})), AMOUNTS, own_capacity),
    "another device is removed": Attack(on_node_status(amounts(**{"example.com/fpga": None})), AMOUNTS, own_capacity),
    "cpu rides with a slice": Attack(on_node_status(amounts(**{MIG: "3", "cpu": "65"})), AMOUNTS, own_capacity),
    "all capacity is removed": Attack(on_node_status({"status": {"capacity": None}}), AMOUNTS, own_capacity),
    "the node is said to be ill": Attack(
        on_node_status({"status": {"conditions": [CONDITION]}}), STATUS, own_capacity
    ),
    "a condition is added": Attack(
        on_node_status({"status": {"conditions": [{**CONDITION, "type": "Stolen"}]}}, STRATEGIC), STATUS, own_capacity
    ),
    "another address": Attack(
        on_node_status({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
        STATUS,
        own_capacity,
    ),
    "another port of the kubelet": Attack(
        on_node_status({"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 4}}}}), STATUS, own_capacity
    ),
    "other images": Attack(on_node_status({"status": {"images": []}}), STATUS, own_capacity),
    "another kernel": Attack(on_node_status({"status": {"nodeInfo": {"kernelVersion": "1"}}}), STATUS, own_capacity),
    "a volume that is attached": Attack(on_node_status({"status": {"volumesInUse": ["x"]}}), STATUS, own_capacity),
    "a label through the status": Attack(on_node_status(labels(x="y")), LABELS, own_capacity),
    "the fence through the status": Attack(on_node_status(labels(cdmo_fenced="true")), LABELS, own_label),
    "an annotation through the status": Attack(
        on_node_status(metadata(annotations={"a": "b"})), METADATA, own_capacity
    ),
    "a finalizer through the status": Attack(
        on_node_status(metadata(finalizers=["example.com/keep"])), METADATA, own_capacity
    ),
    "an owner through the status": Attack(on_node_status(metadata(ownerReferences=[OWNER])), METADATA, own_capacity),
    "another node is fenced": Attack(on_other(own_label), OTHERS, own_label),
    "another node is tainted": Attack(on_other(own_taint), OTHERS, own_taint),
    "another node offers slices": Attack(on_other(own_capacity), OTHERS, own_capacity),
    "a node is made": Attack(
        lambda scene: Act("POST", NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "evil"}}),
        RBAC,
        own_label,
    ),
    "its node is deleted": Attack(lambda scene: Act("DELETE", f"{NODES}/{scene.own}"), RBAC, own_label),
    "its node is replaced": Attack(
        lambda scene: Act("PUT", f"{NODES}/{scene.own}", scene.admin.get(f"{NODES}/{scene.own}")), RBAC, own_label
    ),
    "its kubelet is asked": Attack(lambda scene: Act("GET", f"{NODES}/{scene.own}/proxy/pods"), RBAC, own_label),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_agent_changes_of_nodes_what_is_its_own_and_nothing_else(scene: Scene, attack: Attack) -> None:
    attack.check(scene, scene.agent, scene.agent)


@pytest.mark.parametrize("form", PATCHES)
@pytest.mark.parametrize("subresource", ["", "/status"])
def test_the_form_of_a_patch_makes_no_difference(scene: Scene, form: str, subresource: str) -> None:
    build = on_node_status if subresource else on_node
    content_type, change = PATCHES[form]
    attack = Attack(build(change, content_type), METADATA, own_capacity if subresource else own_label)
    attack.check(scene, scene.agent, scene.agent)


@pytest.mark.parametrize("form", [STRATEGIC, APPLY])
def test_what_is_its_own_may_come_in_any_form_of_a_patch(scene: Scene, form: str) -> None:
    for act in (on_node(labels(cdmo_fenced="true"), form), on_node_status(amounts(**{MIG: "2"}), form)):
        scene.agent.do(act(scene)).require()
    node = scene.node()
    assert node["metadata"]["labels"]["cdmo.clear.ml/fenced"] == "true"
    assert node["status"]["capacity"][MIG] == node["status"]["allocatable"][MIG] == "2"


def test_a_spec_that_comes_through_the_status_has_no_effect(scene: Scene) -> None:
    before = scene.node()
    scene.agent.do(on_node_status({"spec": {"unschedulable": True, "taints": []}})(scene)).require()
    assert scene.node() == before


def test_fence_taint_marker_and_slices_come_and_go(scene: Scene) -> None:
    before = scene.node()
    marked = labels(cdmo_fenced="true", cdmo_managed="true")
    for change in (taints(OTHERS_TAINT, OWN_TAINT), marked, labels(cdmo_fenced="changing")):
        scene.agent.do(on_node(change)(scene)).require()
    scene.agent.do(own_capacity(scene)).require()
    for change in (labels(cdmo_fenced=None, cdmo_managed=None), taints(OTHERS_TAINT)):
        scene.agent.do(on_node(change)(scene)).require()
    gone = amounts(**{MIG: "1", "nvidia.com/mig-2g.20gb": None})
    scene.agent.do(on_node_status(gone)(scene)).require()
    assert scene.node() == before


def test_an_old_taint_of_its_key_with_another_effect_does_not_stop_the_agent(scene: Scene) -> None:
    evicting = {**OWN_TAINT, "effect": "NoExecute"}
    scene.admin.merge(f"{NODES}/{scene.own}", taints(OTHERS_TAINT, evicting))
    scene.agent.do(on_node(taints(OTHERS_TAINT, evicting, OWN_TAINT))(scene)).require()
    scene.agent.do(on_node(taints(OTHERS_TAINT))(scene)).require()
    assert scene.node()["spec"]["taints"] == [OTHERS_TAINT]


def test_a_node_without_labels_taints_and_capacity_is_confined_the_same_way(scene: Scene) -> None:
    path = f"{NODES}/{scene.own}"
    scene.admin.merge(path, {"metadata": {"labels": None, "annotations": None}, "spec": {"taints": None}})
    scene.admin.merge(f"{path}/status", {"status": {"capacity": None, "allocatable": None}})
    for attack in (
        Attack(on_node(labels(x="y")), LABELS, own_label),
        Attack(on_node(taints(OTHERS_TAINT)), TAINTS, on_node(taints(OWN_TAINT))),
        Attack(on_node_status(amounts(cpu="1")), AMOUNTS, own_capacity),
        Attack(on_node(metadata(annotations={"a": "b"})), METADATA, on_node(labels(cdmo_fenced=None))),
        Attack(on_node({"spec": {"unschedulable": True}}), SPEC, on_node(taints())),
    ):
        attack.check(scene, scene.agent, scene.agent)
    assert "labels" not in scene.node()["metadata"]
    assert "taints" not in scene.node()["spec"]


def test_the_biggest_node_is_within_what_a_policy_may_cost(scene: Scene) -> None:
    path = f"{NODES}/{scene.own}"
    many = {f"example.com/r{number}": "1" for number in range(300)}
    images = [{"names": [f"registry.example/{number}/{'x' * 200}" for _ in range(5)]} for number in range(50)]
    scene.admin.merge(
        path,
        {
            "metadata": {"labels": {f"example.com/l{number}": "x" * 60 for number in range(500)}},
            "spec": {"taints": [{"key": f"t{number}", "effect": "NoSchedule"} for number in range(100)]},
        },
    )
    scene.admin.merge(f"{path}/status", {"status": {"capacity": many, "allocatable": many, "images": images}})
    Attack(on_node_status(amounts(cpu="1")), AMOUNTS, own_capacity).check(scene, scene.agent, scene.agent)
    Attack(on_node(labels(x="y")), LABELS, own_label).check(scene, scene.agent, scene.agent)
