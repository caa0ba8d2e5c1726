"""Somebody who stole a node has its agent's token: what it can do besides Nodes. And other tokens of that account."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cdmo_harness.control_plane import ControlPlane

from tests.access.acts import (
    RBAC,
    Attack,
    binding,
    event,
    labels,
    metadata,
    on_node,
    on_other,
    own_capacity,
    own_label,
    own_status,
    own_taint,
)
from tests.access.caller import EVENTS, JSON_PATCH, MERGE, MIGNODES, NODES, Act, Caller
from tests.access.conftest import eventually
from tests.access.scene import OTHERS_TAINT, Scene, make_node, mignode_manifest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

OTHERS = "an agent writes its own node's objects only"
STATUS_ONLY = "an agent writes the status of its MigNode only"
UPDATES_ONLY = "an agent updates its Node and MigNode"
BINDS_NOTHING = "an agent binds nothing"
SPEAKS_FOR_ITSELF = "an agent's Events are about its own Node and MigNode"
UNBOUND = "an agent's token must be bound to a node"
POD = {"apiVersion": "v1", "kind": "Pod", "name": "train", "namespace": "default"}
SPEC = {"spec": {"gpus": [], "observedRevision": 9}}


def own_binding(scene: Scene) -> Act:
    """The fence's probe. The pod does not exist: 404 is the success."""
    return binding(scene.own)


def own_event(scene: Scene) -> Act:
    """An Event as the agent writes it."""
    return event(scene)


def spec_of(scene: Scene) -> Act:
    """Another layout for its own GPUs."""
    return Act("PATCH", f"{MIGNODES}/{scene.own}", SPEC, MERGE)


ATTACKS = {
    "another node's status": Attack(on_other(own_status), OTHERS, own_status),
    "its MigNode's spec": Attack(spec_of, RBAC, own_status),
    "its MigNode is made": Attack(lambda scene: Act("POST", MIGNODES, mignode_manifest("evil")), RBAC, own_status),
    "its MigNode is deleted": Attack(lambda scene: Act("DELETE", f"{MIGNODES}/{scene.own}"), RBAC, own_status),
    "a MigNode is read alone": Attack(lambda scene: Act("GET", f"{MIGNODES}/{scene.own}"), RBAC, own_status),
    "another's Event": Attack(
        lambda scene: event(scene, reportingController="kubelet"), SPEAKS_FOR_ITSELF, own_event
    ),
    "an Event of another node's agent": Attack(
        lambda scene: event(scene, reportingInstance=scene.other), SPEAKS_FOR_ITSELF, own_event
    ),
    "an Event about another node": Attack(
        lambda scene: event(scene, regarding={"apiVersion": "v1", "kind": "Node", "name": scene.other}),
        SPEAKS_FOR_ITSELF,
        own_event,
    ),
    "an Event about a Secret": Attack(
        lambda scene: event(scene, regarding={"apiVersion": "v1", "kind": "Secret", "name": scene.own}),
        SPEAKS_FOR_ITSELF,
        own_event,
    ),
    "an Event about a pod in another's name": Attack(
        lambda scene: event(scene, regarding=POD, reportingInstance=scene.other),
        SPEAKS_FOR_ITSELF,
        lambda scene: event(scene, regarding=POD),
    ),
    "an Event about nothing": Attack(lambda scene: event(scene, regarding={}), SPEAKS_FOR_ITSELF, own_event),
    "an Event of the old kind": Attack(
        lambda scene: Act("POST", "/api/v1/namespaces/default/events", {"apiVersion": "v1", "kind": "Event"}),
        RBAC,
        own_event,
    ),
    "Events are removed": Attack(lambda scene: Act("DELETE", EVENTS), RBAC, own_event),
    "a pod's status": Attack(
        lambda scene: Act("PATCH", "/api/v1/namespaces/default/pods/x/status", {"status": {}}, MERGE),
        RBAC,
        own_status,
    ),
    "a pod is evicted": Attack(
        lambda scene: Act("POST", "/api/v1/namespaces/default/pods/x/eviction", {}), RBAC, own_status
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_agent_reports_on_its_own_node_and_does_nothing_else(scene: Scene, attack: Attack) -> None:
    attack.check(scene, scene.agent, scene.agent)


def test_what_rides_with_a_status_has_no_effect(scene: Scene) -> None:
    before = scene.mignode()
    change = {"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/x"]}, **SPEC, "status": {"revision": 8}}
    scene.agent.do(Act("PATCH", f"{MIGNODES}/{scene.own}/status", change, MERGE)).require()
    after = scene.mignode()
    assert after.pop("status") == {"revision": 8}
    assert after == before


BINDINGS = {
    "a pod is bound": (lambda scene: binding(scene.own, dry_run=False), BINDS_NOTHING),
    "a pod is bound to another node": (lambda scene: binding(scene.other, dry_run=False), BINDS_NOTHING),
    "a binding to another node is tried": (lambda scene: binding(scene.other), BINDS_NOTHING),
    "a binding of another pod is tried": (
        lambda scene: replace(binding(scene.own), path="/api/v1/namespaces/default/pods/x/binding"),
        RBAC,
    ),
    "a binding in another namespace is tried": (
        lambda scene: replace(binding(scene.own), path="/api/v1/namespaces/cdmo/pods/cdmo-fence-probe/binding"),
        RBAC,
    ),
    "a binding of the old kind is tried": (
        lambda scene: replace(binding(scene.own), path="/api/v1/namespaces/default/bindings"),
        RBAC,
    ),
}


@pytest.mark.parametrize(("attack", "refused"), BINDINGS.values(), ids=BINDINGS)
def test_an_agent_binds_nothing_but_may_ask_whether_it_could(scene: Scene, attack: object, refused: str) -> None:
    assert callable(attack)
    answer = scene.agent.do(attack(scene))
    assert (answer.status, refused in answer.message) == (403, True), answer.message
    own = scene.agent.do(own_binding(scene))
    assert (own.status, own.body["details"]["name"]) == (404, "cdmo-fence-probe")


EVERYTHING_ALLOWED = (own_label, own_taint, own_capacity, own_status, own_event)


@pytest.mark.parametrize("act", EVERYTHING_ALLOWED, ids=lambda each: each.__name__)
def test_a_token_that_is_bound_to_no_node_writes_nothing(scene: Scene, act: object) -> None:
    assert callable(act)
    Attack(act, UNBOUND, act).check(scene, scene.unbound, scene.agent)


def test_a_token_that_is_bound_to_no_node_cannot_even_probe(scene: Scene) -> None:
    answer = scene.unbound.do(own_binding(scene))
    assert (answer.status, UNBOUND in answer.message) == (403, True)


def test_the_token_of_a_node_is_void_once_the_node_was_made_again(cluster: ControlPlane, admin: Caller) -> None:
    name = "gpu-made-again"
    make_node(admin, name)
    with Caller(cluster.service_account_kubeconfig("cdmo", "cdmo-agent", node=name)) as agent:
        fenced = Act("PATCH", f"{NODES}/{name}", labels(cdmo_fenced="true"), MERGE)
        agent.do(fenced).require()
        for path in (f"{MIGNODES}/{name}", f"{NODES}/{name}"):
            admin.do(Act("DELETE", path)).require()
        make_node(admin, name)
        # API servers remember for up to ten seconds that a token is good.
        eventually(lambda: agent.do(fenced).status == 401, "the old token is void")
    with Caller(cluster.service_account_kubeconfig("cdmo", "cdmo-agent", node=name)) as agent:
        agent.do(fenced).require()


def test_where_rbac_is_too_wide_the_policy_still_confines_agents(unlimited: Scene) -> None:
    nodes, mignodes = f"{NODES}/{unlimited.own}", f"{MIGNODES}/{unlimited.own}"
    made = unlimited.admin.create(EVENTS, event(unlimited).body)
    evil = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": unlimited.own}}
    cordoned = {**unlimited.admin.get(nodes), "spec": {"taints": [OTHERS_TAINT], "unschedulable": True}}
    attacks = (
        (Act("POST", NODES, evil), UPDATES_ONLY),
        (Act("DELETE", nodes), UPDATES_ONLY),
        (Act("DELETE", NODES), UPDATES_ONLY),
        (Act("PUT", nodes, cordoned), "of its Node's spec"),
        (Act("DELETE", mignodes), UPDATES_ONLY),
        (Act("POST", MIGNODES, mignode_manifest("evil")), UPDATES_ONLY),
        (spec_of(unlimited), STATUS_ONLY),
        (on_other(spec_of)(unlimited), OTHERS),
        (Act("PATCH", mignodes, [{"op": "add", "path": "/metadata/labels", "value": {}}], JSON_PATCH), STATUS_ONLY),
        (replace(binding(unlimited.own, dry_run=False), path="/api/v1/namespaces/default/bindings"), BINDS_NOTHING),
        (binding(unlimited.own, dry_run=False), BINDS_NOTHING),
        (binding(unlimited.other), BINDS_NOTHING),
        (Act("DELETE", f"{EVENTS}/{made['metadata']['name']}"), UPDATES_ONLY),
        (Act("PATCH", f"{EVENTS}/{made['metadata']['name']}", metadata(labels={"a": "b"}), MERGE), UPDATES_ONLY),
    )
    before = unlimited.everything()
    for attack, refused in attacks:
        answer = unlimited.agent.do(attack)
        assert (answer.status, refused in answer.message) == (403, True), f"{attack}: {answer.message}"
    assert unlimited.everything() == before
    for act in EVERYTHING_ALLOWED:
        unlimited.agent.do(act(unlimited)).require()
    unlimited.other_agent.do(on_other(on_node(labels(cdmo_fenced="true")))(unlimited)).require()
