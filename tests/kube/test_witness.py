"""The pod by which a scheduler shows that it has heard of a change. A real one: test_contract_witness.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cdmo.errors import AlreadyExists, ClusterUnavailable, Denied, Invalid, NotFound
from cdmo.kube.witness import KubeWitness, manifest
from cdmo.model.names import CHANGE_LABEL, WITNESS_RESOURCE
from tests.fakes import faults
from tests.fakes.api_server import Exchange, FakeApiServer
from tests.fakes.api_store import Address
from tests.kube.objects import connection_to

CHANGE, EARLIER = "0000000000000002", "0000000000000001"
PODS = "api/v1/namespaces/cdmo/pods"
POD = f"{PODS}/cdmo-witness-gpu-1"
MISSING = f"0/3 nodes are available: 1 Insufficient {WITNESS_RESOURCE}, 2 node(s) didn't match Pod's node affinity."
UNMATCHED = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


@pytest.fixture
async def witness(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[KubeWitness]:
    async with connection_to(server.url, tmp_path) as connection:
        yield KubeWitness(connection, "cdmo", "gpu-scheduler")


async def deleted(exchange: Exchange) -> None:
    """Delete as an API server does."""
    exchange.server.store.delete(exchange.request.path)
    await exchange.reply(200, b'{"kind":"Status","status":"Success"}')


def condition(message: str | None = MISSING, status: str = "False", kind: str = "PodScheduled") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "Unschedulable", "message": message}


def judged(server: FakeApiServer, *conditions: dict[str, Any], change: str = CHANGE) -> None:
    """The witness as the scheduler left it."""
    content = manifest("gpu-1", change, "cdmo", "gpu-scheduler")
    server.store.apply(POD, {**content, "status": {"phase": "Pending", "conditions": list(conditions)}})


# --- asking -------------------------------------------------------------------------------------------------


async def test_the_witness_is_made_in_cdmos_own_namespace(server: FakeApiServer, witness: KubeWitness) -> None:
    await witness.call("gpu-1", CHANGE)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", f"/{PODS}")
    assert request.headers["content-type"] == "application/json"
    assert request.json() == manifest("gpu-1", CHANGE, "cdmo", "gpu-scheduler")
    assert Address.parse(POD) in server.store.objects


def test_it_may_only_go_to_its_node_while_that_carries_the_word_of_the_change() -> None:
    spec = manifest("gpu-1", CHANGE, "cdmo", "gpu-scheduler")["spec"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    # Both in one term: terms are alternatives.
    assert required["nodeSelectorTerms"] == [
        {
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}],
            "matchExpressions": [{"key": CHANGE_LABEL, "operator": "In", "values": [CHANGE]}],
        }
    ]
    assert spec["tolerations"] == [{"operator": "Exists"}], "a taint must not be what the scheduler tells of"


def test_it_never_runs_and_is_judged_first_by_the_scheduler_that_is_asked() -> None:
    spec = manifest("gpu-1", CHANGE, "cdmo", "gpu-scheduler")["spec"]
    assert (spec["schedulerName"], spec["priorityClassName"]) == ("gpu-scheduler", "system-node-critical")
    assert [each["resources"] for each in spec["containers"]] == [{"limits": {WITNESS_RESOURCE: "1"}}]


async def test_one_that_an_earlier_change_left_is_replaced(server: FakeApiServer, witness: KubeWitness) -> None:
    judged(server, condition(), change=EARLIER)
    server.script("delete", deleted)
    await witness.call("gpu-1", CHANGE)
    assert [each.method for each in server.requests] == ["POST", "DELETE", "POST"]
    labels = server.store.objects[Address.parse(POD)]["metadata"]["labels"]
    assert labels[CHANGE_LABEL] == CHANGE


async def test_one_that_does_not_go_is_told_after_three_tries(server: FakeApiServer, witness: KubeWitness) -> None:
    judged(server, change=EARLIER)
    server.script("delete", *[faults.body(b"{}")] * 3)  # it is said to be deleted, and stays
    with pytest.raises(AlreadyExists, match="could not create Pod cdmo/cdmo-witness-gpu-1"):
        await witness.call("gpu-1", CHANGE)
    assert [each.method for each in server.requests] == ["POST", "DELETE", "POST", "DELETE", "POST"]


async def test_a_webhook_that_refuses_it_is_told(server: FakeApiServer, witness: KubeWitness) -> None:
    server.script("post", faults.answer(403, "Forbidden", 'admission webhook "x" denied the request'))
    with pytest.raises(Denied, match='admission webhook "x" denied the request'):
        await witness.call("gpu-1", CHANGE)
    assert len(server.requests) == 1


# --- what it shows ------------------------------------------------------------------------------------------


async def test_a_scheduler_that_misses_the_resource_has_heard(server: FakeApiServer, witness: KubeWitness) -> None:
    judged(server, condition(None, "True", "Initialized"), condition())
    assert await witness.has_heard("gpu-1", CHANGE)
    assert [(each.method, each.path) for each in server.requests] == [("GET", f"/{POD}")]


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [condition(UNMATCHED)],
        [condition(None)],
        [condition(status="True")],
        [condition(status="Unknown")],
        [condition(kind="DisruptionTarget")],
        [condition(UNMATCHED), condition(kind="Initialized")],
    ],
)
async def test_anything_else_is_no_proof(
    conditions: list[dict[str, Any]], server: FakeApiServer, witness: KubeWitness
) -> None:
    judged(server, *conditions)
    assert not await witness.has_heard("gpu-1", CHANGE)


async def test_what_it_knew_of_another_change_is_no_proof(server: FakeApiServer, witness: KubeWitness) -> None:
    judged(server, condition(), change=EARLIER)
    assert not await witness.has_heard("gpu-1", CHANGE)


async def test_a_witness_that_somebody_deleted_shows_nothing(witness: KubeWitness) -> None:
    with pytest.raises(NotFound):
        await witness.has_heard("gpu-1", CHANGE)


@pytest.mark.parametrize(
    "content",
    [
        {"metadata": {}},
        {"metadata": {"labels": None}, "status": None},
        {"metadata": {"labels": {CHANGE_LABEL: CHANGE}}, "status": {"conditions": None}},
        {"metadata": {"labels": {CHANGE_LABEL: CHANGE}}, "status": {"conditions": [{}]}},
    ],
)
async def test_a_witness_of_which_nothing_is_known_shows_nothing(
    content: dict[str, Any], server: FakeApiServer, witness: KubeWitness
) -> None:
    server.store.apply(POD, content)
    assert not await witness.has_heard("gpu-1", CHANGE)


async def test_an_odd_one_is_a_failure(server: FakeApiServer, witness: KubeWitness) -> None:
    server.store.apply(POD, {"metadata": {}, "status": {"conditions": [{"type": 7}]}})
    with pytest.raises(Invalid, match="could not get Pod cdmo/cdmo-witness-gpu-1"):
        await witness.has_heard("gpu-1", CHANGE)
    server.script("get", faults.body(faults.GARBAGE))
    with pytest.raises(ClusterUnavailable):
        await witness.has_heard("gpu-1", CHANGE)


# --- taking it back -----------------------------------------------------------------------------------------


async def test_it_is_deleted_at_once(server: FakeApiServer, witness: KubeWitness) -> None:
    judged(server)
    server.script("delete", deleted)
    await witness.dismiss("gpu-1")
    assert Address.parse(POD) not in server.store.objects
    (request,) = server.requests
    assert (request.method, request.path) == ("DELETE", f"/{POD}")
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}


async def test_where_there_is_none_that_is_fine(witness: KubeWitness) -> None:
    await witness.dismiss("gpu-1")


@pytest.mark.parametrize(("code", "failure"), [(403, Denied), (503, ClusterUnavailable)])
async def test_one_that_cannot_be_deleted_is_told(
    code: int, failure: type[Exception], server: FakeApiServer, witness: KubeWitness
) -> None:
    server.script("delete", faults.answer(code))
    with pytest.raises(failure):
        await witness.dismiss("gpu-1")
