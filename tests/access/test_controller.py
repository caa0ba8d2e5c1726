"""Somebody with the controller's token: what it can do to Nodes, MigNodes and Events."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access.acts import (
    RBAC,
    Attack,
    event,
    labels,
    metadata,
    on_node,
    own_capacity,
    own_status,
    taints,
)
from tests.access.caller import EVENTS, MERGE, MIGNODES, NODES, Act, Json
from tests.access.scene import OTHERS_TAINT, OWN_TAINT, Scene, mignode_manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

LABELS = "the controller only takes cdmo.clear.ml/fenced off a Node"
METADATA = "the controller changes no annotation, finalizer, owner or other metadata"
TAINTS = "the controller only takes cdmo.clear.ml/repartitioning off"
SPEC = "of a Node's spec the controller changes the taints only"
MODE = "a MigNode's mode is its administrator's"
NEW = "a new MigNode belongs to the Node of its name"
UPDATES_ONLY = "the controller updates Nodes, creates and updates MigNodes"
KINDS = "the controller's Events are about"

LOWERED = on_node(labels(cdmo_fenced=None))
UNTAINTED = on_node(taints(OTHERS_TAINT))


def on_mignode(change: Json) -> Any:
    """A patch of a MigNode."""
    return lambda scene: Act("PATCH", f"{MIGNODES}/{scene.own}", change, MERGE)


LAYOUT = on_mignode({"spec": {"gpus": [], "observedRevision": 5}})


def new_mignode(name: str = "", owner: str = "", **fields: Any) -> Any:
    """A MigNode for node `new`, which does not exist: nothing of the scene is in its way."""

    def make(scene: Scene) -> Act:
        wanted = name or f"{scene.own}-new"
        uid = "00000000-0000-4000-8000-000000000000"
        node = {"apiVersion": "v1", "kind": "Node", "name": owner or wanted, "uid": uid}
        return Act("POST", MIGNODES, mignode_manifest(wanted, node, **fields), dry_run=True)

    return make


def ownerless(scene: Scene) -> Act:
    """A MigNode that nobody owns."""
    return Act("POST", MIGNODES, mignode_manifest("nobodys"))


def disabled(scene: Scene) -> Act:
    """A MigNode that is made without its administrator's will."""
    act = new_mignode()(scene)
    return Act("POST", MIGNODES, {**act.body, "spec": {"mode": "Disabled"}})


def own_event(scene: Scene) -> Act:
    """An Event as the controller writes it, about a pod."""
    pod = {"apiVersion": "v1", "kind": "Pod", "name": "train", "namespace": "default"}
    return event(scene, reportingController="cdmo-controller", regarding=pod)


ATTACKS = {
    "a node is fenced": Attack(on_node(labels(cdmo_fenced="also")), LABELS, LOWERED),
    "another label is added": Attack(on_node(labels(x="y")), LABELS, LOWERED),
    "another label is removed": Attack(on_node(labels(team=None)), LABELS, LOWERED),
    "a node leaves CDMO": Attack(on_node(labels(cdmo_gpu_partitioning=None)), LABELS, LOWERED),
    "the marker is removed": Attack(on_node(labels(cdmo_managed=None)), LABELS, LOWERED),
    "an annotation": Attack(on_node(metadata(annotations={"a": "b"})), METADATA, LOWERED),
    "a finalizer": Attack(on_node(metadata(finalizers=["example.com/keep"])), METADATA, LOWERED),
    "another taint is added": Attack(
        on_node(taints(OTHERS_TAINT, OWN_TAINT, {"key": "x", "effect": "NoExecute"})), TAINTS, UNTAINTED
    ),
    "others' taint is removed": Attack(on_node(taints(OWN_TAINT)), TAINTS, UNTAINTED),
    "the taint throws pods out": Attack(
        on_node(taints(OTHERS_TAINT, {**OWN_TAINT, "effect": "NoExecute"})), TAINTS, UNTAINTED
    ),
    "a node is cordoned": Attack(on_node({"spec": {"unschedulable": True}}), SPEC, UNTAINTED),
    "a node offers slices": Attack(own_capacity, RBAC, LOWERED),
    "a node is deleted": Attack(lambda scene: Act("DELETE", f"{NODES}/{scene.own}"), RBAC, LOWERED),
    "an administrator's mode": Attack(on_mignode({"spec": {"mode": "Disabled"}}), MODE, LAYOUT),
    "a MigNode's label": Attack(on_mignode(metadata(labels={"a": "b"})), LABELS, LAYOUT),
    "a MigNode's annotation": Attack(on_mignode(metadata(annotations={"a": "b"})), METADATA, LAYOUT),
    "a MigNode that cannot go": Attack(on_mignode(metadata(finalizers=["example.com/keep"])), METADATA, LAYOUT),
    "a MigNode without its owner": Attack(on_mignode(metadata(ownerReferences=None)), METADATA, LAYOUT),
    "an agent's report": Attack(own_status, RBAC, LAYOUT),
    "a MigNode is deleted": Attack(lambda scene: Act("DELETE", f"{MIGNODES}/{scene.own}"), RBAC, LAYOUT),
    "a MigNode of another's node": Attack(new_mignode(owner="another"), NEW, new_mignode()),
    "a MigNode of nobody's": Attack(ownerless, NEW, new_mignode()),
    "a new MigNode that cannot go": Attack(new_mignode(finalizers=["example.com/keep"]), NEW, new_mignode()),
    "a new MigNode with a label": Attack(new_mignode(labels={"a": "b"}), NEW, new_mignode()),
    "a new MigNode that is off": Attack(disabled, MODE, new_mignode()),
    "another's Event": Attack(lambda scene: event(scene, reportingController="kubelet"), KINDS, own_event),
    "an Event about a Secret": Attack(
        lambda scene: event(scene, reportingController="cdmo-controller", regarding={"kind": "Secret", "name": "x"}),
        KINDS,
        own_event,
    ),
    "Events are removed": Attack(lambda scene: Act("DELETE", EVENTS), RBAC, own_event),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_controller_lifts_fences_and_owns_layouts_and_nothing_else(scene: Scene, attack: Attack) -> None:
    # A fenced node: what may be taken off is there.
    marked = labels(cdmo_fenced="true", cdmo_managed="true")
    scene.admin.merge(f"{NODES}/{scene.own}", {**marked, **taints(OTHERS_TAINT, OWN_TAINT)})
    attack.check(scene, scene.controller, scene.controller)


def test_a_disabled_node_stays_disabled_when_its_layout_is_written(scene: Scene) -> None:
    path = f"{MIGNODES}/{scene.own}"
    scene.admin.merge(path, {"spec": {"mode": "Disabled"}})
    answer = scene.controller.do(Act("PATCH", path, {"spec": {"mode": "Managed"}}, MERGE))
    assert (answer.status, MODE in answer.message) == (403, True)
    scene.controller.do(LAYOUT(scene)).require()
    assert scene.mignode()["spec"]["mode"] == "Disabled"


def test_where_rbac_is_too_wide_the_policy_still_confines_the_controller(unlimited: Scene) -> None:
    nodes, mignodes = f"{NODES}/{unlimited.own}", f"{MIGNODES}/{unlimited.own}"
    attacks = (
        Act("DELETE", nodes),
        Act("POST", NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "evil"}}),
        own_capacity(unlimited),
        own_status(unlimited),
        Act("DELETE", mignodes),
        Act("DELETE", MIGNODES),
    )
    before = unlimited.everything()
    for attack in attacks:
        answer = unlimited.controller.do(attack)
        assert (answer.status, UPDATES_ONLY in answer.message) == (403, True), f"{attack}: {answer.message}"
    assert unlimited.everything() == before
    unlimited.controller.do(LAYOUT(unlimited)).require()


@pytest.mark.parametrize(
    ("act", "refused"),
    [
        (LOWERED, LABELS),
        (on_node(labels(cdmo_fenced="true")), LABELS),
        (UNTAINTED, TAINTS),
        (on_node({**labels(cdmo_fenced=None), **taints(OTHERS_TAINT)}), LABELS),
    ],
    ids=["the label", "its value", "the taint", "both at once"],
)
def test_nobody_but_its_agent_opens_a_node_whose_hardware_may_be_half_changed(
    scene: Scene, act: Any, refused: str
) -> None:
    changing = {**labels(cdmo_fenced="changing"), **taints(OTHERS_TAINT, OWN_TAINT)}
    scene.admin.merge(f"{NODES}/{scene.own}", changing)
    Attack(act, refused, LOWERED).check(scene, scene.controller, scene.agent)
