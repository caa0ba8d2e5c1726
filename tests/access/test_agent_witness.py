"""Somebody who stole a node has its agent's token, which may make one pod: what that pod cannot be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cdmo.kube.witness import manifest
from cdmo.model.names import WITNESS_RESOURCE
from tests.access.acts import RBAC, Attack, In
from tests.access.caller import MERGE, Act, Json
from tests.access.scene import Scene

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

PODS = "/api/v1/namespaces/cdmo/pods"
OWN = "an agent makes and deletes the witness of its own node only"
PLACE = "an agent's witness may go to its own node only"
NEVER = "an agent's witness asks for cdmo.clear.ml/never"
NOTHING = "an agent's witness has nothing of the host, no volumes and no token"
CHANGE = "0123456789abcdef"


def own_witness(scene: Scene) -> Act:
    """The pod as the agent makes it; tried only, for a scene of its own is needed for each."""
    return Act("POST", PODS, manifest(scene.own, CHANGE, "cdmo", "default-scheduler"), dry_run=True)


def but(change: Callable[[Json, Scene], Any]) -> In:
    """The witness with a change."""

    def act(scene: Scene) -> Act:
        body = copy.deepcopy(manifest(scene.own, CHANGE, "cdmo", "default-scheduler"))
        change(body, scene)
        return Act("POST", PODS, body, dry_run=True)

    return act


def spec(**fields: Any) -> In:
    """The witness with other fields in its spec."""
    return but(lambda body, _: body["spec"].update(fields))


def container(**fields: Any) -> In:
    """The witness with other fields in its container."""
    return but(lambda body, _: body["spec"]["containers"][0].update(fields))


def terms(body: Json) -> list[Json]:
    """Where it may go."""
    affinity = body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    found: list[Json] = affinity["nodeSelectorTerms"]
    return found


LIMITS = {"limits": {WITNESS_RESOURCE: "1"}}
SECOND = {"name": "second", "image": "never.invalid/never", "resources": LIMITS}
HOST = {"name": "host", "hostPath": {"path": "/"}}

ATTACKS = {
    "another name": Attack(but(lambda body, _: body["metadata"].update(name="evil")), OWN, own_witness),
    "another node's name": Attack(
        but(lambda body, scene: body["metadata"].update(name=f"cdmo-witness-{scene.other}")), OWN, own_witness
    ),
    "a name that the API server makes": Attack(
        but(lambda body, _: body.update(metadata={"generateName": "cdmo-witness-"})), OWN, own_witness
    ),
    "another node": Attack(
        but(lambda body, scene: terms(body)[0].update(matchFields=[_named(scene.other)])), PLACE, own_witness
    ),
    "any node besides": Attack(
        but(lambda body, scene: terms(body).append({"matchFields": [_named(scene.other)]})), PLACE, own_witness
    ),
    "every node": Attack(spec(affinity={}), PLACE, own_witness),
    "past the scheduler": Attack(
        but(lambda body, scene: body["spec"].update(nodeName=scene.own)), PLACE, own_witness
    ),
    "a pod that could run": Attack(container(resources={}), NEVER, own_witness),
    "a second container": Attack(but(lambda body, _: body["spec"]["containers"].append(SECOND)), NEVER, own_witness),
    "a container before it": Attack(spec(initContainers=[SECOND]), NOTHING, own_witness),
    "the host's files": Attack(spec(volumes=[HOST]), NOTHING, own_witness),
    "the host's network": Attack(spec(hostNetwork=True), NOTHING, own_witness),
    "the host's processes": Attack(spec(hostPID=True), NOTHING, own_witness),
    "the host's memory": Attack(spec(hostIPC=True), NOTHING, own_witness),
    "the controller's token": Attack(
        spec(serviceAccountName="cdmo-controller", automountServiceAccountToken=True), NOTHING, own_witness
    ),
    "root on the host": Attack(container(securityContext={"privileged": True}), NOTHING, own_witness),
    "in another namespace": Attack(
        lambda scene: Act(
            "POST",
            "/api/v1/namespaces/default/pods",
            manifest(scene.own, CHANGE, "default", "default-scheduler"),
            dry_run=True,
        ),
        RBAC,
        own_witness,
    ),
}


def _named(*nodes: str) -> Json:
    return {"key": "metadata.name", "operator": "In", "values": list(nodes)}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_agents_pod_is_the_witness_of_its_own_node_and_nothing_else(scene: Scene, attack: Attack) -> None:
    attack.check(scene, scene.agent, scene.agent)


@pytest.mark.parametrize("whose", ["own", "other"])
def test_an_agent_deletes_its_own_witness_and_no_other_pod(scene: Scene, whose: str) -> None:
    name = scene.own if whose == "own" else scene.other
    scene.admin.create(PODS, manifest(name, CHANGE, "cdmo", "default-scheduler"))
    path = f"{PODS}/cdmo-witness-{name}"
    answer = scene.agent.do(Act("DELETE", path, {"gracePeriodSeconds": 0}))
    if whose == "own":
        answer.require()
        assert scene.admin.do(Act("GET", path)).status == 404
    else:
        assert (answer.status, OWN in answer.message) == (403, True)
        scene.admin.do(Act("DELETE", path)).require()


def test_an_agent_changes_nothing_of_its_witness_even_where_rbac_would_let_it(unlimited: Scene) -> None:
    unlimited.agent.create(PODS, manifest(unlimited.own, CHANGE, "cdmo", "default-scheduler"))
    path = f"{PODS}/cdmo-witness-{unlimited.own}"
    answer = unlimited.agent.do(Act("PATCH", path, {"metadata": {"labels": {"x": "y"}}}, MERGE))
    assert (answer.status, "an agent updates its Node and MigNode" in answer.message) == (403, True)
    unlimited.agent.do(Act("DELETE", path)).require()
