"""What enabling and disabling a node asks of an API server: requests as they must be, and odd answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cdmo.api.v1alpha1 import Mode
from cdmo.errors import ClusterUnavailable, Denied, Invalid, NotFound
from cdmo.kube.handover_api import KubeHandover
from cdmo.model.gpu import PodKey
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.fakes.api_store import Address
from tests.kube.objects import POD_PATH, connection_to, container, node_json, pod_json

NODE = "api/v1/nodes/gpu-1"
MIGNODE = "apis/cdmo.clear.ml/v1alpha1/mignodes/gpu-1"
POD = PodKey("ml", "train", "uid-train")


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


@pytest.fixture
async def api(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[KubeHandover]:
    async with connection_to(server.url, tmp_path) as connection:
        yield KubeHandover(connection)


def held(server: FakeApiServer, path: str) -> Any:
    """An object as it lies there."""
    return server.store.objects[Address.parse(path)]


def controlled_by(kind: str, **more: Any) -> list[dict[str, Any]]:
    return [{"apiVersion": "apps/v1", "kind": kind, "name": "owner", "uid": "u", "controller": True, **more}]


def bound_pod(server: FakeApiServer, name: str, owners: Any = None, node: str = "gpu-1") -> None:
    pod = pod_json(name, nodeName=node, containers=[container(mig_1g="2")])
    if owners is not None:
        pod["metadata"]["ownerReferences"] = owners
    server.store.apply(f"{POD_PATH}/{name}", pod)


# --- reading ------------------------------------------------------------------------------------------------


async def test_a_node_is_read_with_its_annotation_and_what_it_offers(
    server: FakeApiServer, api: KubeHandover
) -> None:
    content = node_json("gpu-1", allocatable={"nvidia.com/gpu": "2", "cpu": "8"})
    content["metadata"]["annotations"] = {"cdmo.clear.ml/mig-mode": "with-reset", "other": "x"}
    server.store.apply(NODE, content)
    node = await api.node("gpu-1")
    assert node is not None
    assert (node.name, node.mig_mode, node.allocatable["nvidia.com/gpu"]) == ("gpu-1", "with-reset", 2)
    assert [(each.method, each.path) for each in server.requests] == [("GET", f"/{NODE}")]


async def test_a_node_or_a_mignode_that_is_not_there_is_none(api: KubeHandover) -> None:
    assert await api.node("gpu-1") is None
    assert await api.mignode("gpu-1") is None


async def test_a_cluster_that_knows_no_mignodes_has_none(server: FakeApiServer, api: KubeHandover) -> None:
    server.script("get", faults.body(b"404 page not found\n", 404))
    assert await api.mignode("gpu-1") is None


async def test_a_mignode_is_read(server: FakeApiServer, api: KubeHandover) -> None:
    gpu = {"pciBusId": "00000000:10:00.0", "uuid": "GPU-1", "model": 0, "migMode": "Enabled"}
    server.store.apply(
        MIGNODE, {"metadata": {"generation": 3}, "spec": {"mode": "Disabled"}, "status": {"gpus": [gpu]}}
    )
    mignode = await api.mignode("gpu-1")
    assert mignode is not None
    assert (mignode.metadata.generation, mignode.spec.mode) == (3, Mode.DISABLED)
    assert [each.mig_mode for each in mignode.status.gpus] == ["Enabled"]
    assert server.requests[0].path == f"/{MIGNODE}"


@pytest.mark.parametrize(
    "content",
    [
        b'{"metadata":{"name":7}}',
        b'{"metadata":null}',
        b'{"metadata":{"name":"gpu-1"},"status":{"allocatable":{"nvidia.com/gpu":"two"}}}',
        b'{"metadata":{"name":"gpu-1"},"status":{"allocatable":{"nvidia.com/gpu":"1E999"}}}',
        b'{"metadata":{"name":"gpu-1","annotations":{"cdmo.clear.ml/mig-mode":1}}}',
    ],
)
async def test_an_odd_node_is_a_failure_that_names_it(
    content: bytes, server: FakeApiServer, api: KubeHandover
) -> None:
    server.script("get", faults.body(content))
    with pytest.raises(Invalid, match=r"^could not get Node gpu-1: ") as told:
        await api.node("gpu-1")
    assert told.value.hint


async def test_an_odd_mignode_is_a_failure_that_names_the_field(server: FakeApiServer, api: KubeHandover) -> None:
    server.store.apply(MIGNODE, {"spec": {"mode": "Perhaps"}})
    with pytest.raises(Invalid, match=r"get MigNode gpu-1: .*\$\.spec\.mode"):
        await api.mignode("gpu-1")


@pytest.mark.parametrize("call", ["node", "mignode", "pods_on"])
async def test_an_answer_that_is_none_is_worth_another_try(
    call: str, server: FakeApiServer, api: KubeHandover
) -> None:
    for verb in ("get", "list"):
        server.script(verb, faults.body(faults.GARBAGE))
    with pytest.raises(ClusterUnavailable):
        await getattr(api, call)("gpu-1")


@pytest.mark.parametrize("call", ["node", "mignode", "pods_on"])
async def test_what_may_not_be_read_is_denied_and_not_missing(
    call: str, server: FakeApiServer, api: KubeHandover
) -> None:
    for verb in ("get", "list"):
        server.script(verb, faults.answer(403, "Forbidden"))
    with pytest.raises(Denied):
        await getattr(api, call)("gpu-1")


# --- pods ---------------------------------------------------------------------------------------------------


async def test_only_the_nodes_pods_are_asked_for(server: FakeApiServer, api: KubeHandover) -> None:
    bound_pod(server, "here")
    bound_pod(server, "elsewhere", node="gpu-2")
    (found,) = await api.pods_on("gpu-1")
    assert (found.pod.key, found.pod.requests) == (PodKey("ml", "here", "uid-here"), {"nvidia.com/mig-1g.10gb": 2})
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/api/v1/pods")
    assert request.query == {"fieldSelector": "spec.nodeName=gpu-1", "limit": "500"}


async def test_more_pods_than_a_page_are_all_found(server: FakeApiServer, api: KubeHandover) -> None:
    for number in range(501):
        bound_pod(server, f"pod-{number:03}")
    assert len(await api.pods_on("gpu-1")) == 501
    assert len(server.asked("list")) == 2


@pytest.mark.parametrize(
    ("owners", "owner"),
    [
        (None, ""),
        ([], ""),
        (controlled_by("DaemonSet"), "DaemonSet"),
        (controlled_by("DaemonSet", controller=False), ""),
        (controlled_by("DaemonSet", controller=None), ""),
        (controlled_by("Node", controller=False) + controlled_by("ReplicaSet"), "ReplicaSet"),
    ],
)
async def test_a_pods_owner_is_its_controller(
    owners: Any, owner: str, server: FakeApiServer, api: KubeHandover
) -> None:
    bound_pod(server, "here", owners)
    assert [each.owner for each in await api.pods_on("gpu-1")] == [owner]


@pytest.mark.parametrize(
    "pod",
    [
        b'{"metadata":{"name":7}}',
        b'{"metadata":{"name":"p","ownerReferences":[{"kind":1}]}}',
        b'{"metadata":{"name":"p"},"spec":{"containers":[{"resources":{"requests":{"nvidia.com/gpu":"x"}}}]}}',
    ],
)
async def test_an_odd_pod_is_a_failure_and_not_taken_for_none(
    pod: bytes, server: FakeApiServer, api: KubeHandover
) -> None:
    server.script("list", faults.body(b'{"metadata":{},"items":[' + pod + b"]}"))
    with pytest.raises(Invalid, match=r"^could not list pods: ") as told:
        await api.pods_on("gpu-1")
    assert told.value.hint


# --- writing ------------------------------------------------------------------------------------------------


async def test_marks_are_merged_into_what_the_node_has_and_none_takes_one_off(
    server: FakeApiServer, api: KubeHandover
) -> None:
    content = node_json("gpu-1")
    content["metadata"] |= {"labels": {"kept": "1", "gone": "2"}, "annotations": {"kept": "3", "gone": "4"}}
    server.store.apply(NODE, content)
    await api.mark_node("gpu-1", {"new": "mig", "gone": None}, {"mode": "manual", "gone": None})
    metadata = held(server, NODE)["metadata"]
    assert metadata["labels"] == {"kept": "1", "new": "mig"}
    assert metadata["annotations"] == {"kept": "3", "mode": "manual"}
    (request,) = server.requests
    assert (request.method, request.path) == ("PATCH", f"/{NODE}")
    assert request.headers["content-type"] == "application/merge-patch+json"
    assert request.json() == {
        "metadata": {"labels": {"new": "mig", "gone": None}, "annotations": {"mode": "manual", "gone": None}}
    }


async def test_a_node_that_went_away_cannot_be_marked(api: KubeHandover) -> None:
    with pytest.raises(NotFound, match="could not patch Node gpu-1"):
        await api.mark_node("gpu-1", {"new": "mig"}, {})


async def test_setting_the_mode_forgets_the_layouts_and_nothing_else(
    server: FakeApiServer, api: KubeHandover
) -> None:
    gpus = [{"pciBusId": "00000000:10:00.0", "layout": [{"profileId": 9, "start": 4}]}]
    server.store.apply(MIGNODE, {"spec": {"observedRevision": 8, "gpus": gpus}, "status": {"revision": 8}})
    mignode = await api.set_mode("gpu-1", Mode.DISABLED)
    assert (mignode.spec.mode, mignode.spec.gpus, mignode.spec.observed_revision) == (Mode.DISABLED, (), 8)
    assert held(server, MIGNODE)["status"] == {"revision": 8}
    (request,) = server.requests
    assert (request.method, request.path) == ("PATCH", f"/{MIGNODE}")
    assert request.headers["content-type"] == "application/merge-patch+json"
    assert request.json() == {"spec": {"mode": "Disabled", "gpus": []}}


async def test_managed_is_written_though_it_is_the_default(server: FakeApiServer, api: KubeHandover) -> None:
    server.store.apply(MIGNODE, {"spec": {"mode": "Disabled"}})
    assert (await api.set_mode("gpu-1", Mode.MANAGED)).spec.mode is Mode.MANAGED
    assert held(server, MIGNODE)["spec"]["mode"] == "Managed"


async def test_a_mignode_that_went_away_has_no_mode(api: KubeHandover) -> None:
    with pytest.raises(NotFound, match="could not patch MigNode gpu-1"):
        await api.set_mode("gpu-1", Mode.DISABLED)


async def test_an_eviction_names_the_very_pod(server: FakeApiServer, api: KubeHandover) -> None:
    server.script("post", faults.body(b'{"kind":"Status","status":"Success"}', 201))
    await api.evict(POD)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/ml/pods/train/eviction")
    assert request.headers["content-type"] == "application/json"
    assert request.json() == {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "train", "namespace": "ml"},
        "deleteOptions": {"preconditions": {"uid": "uid-train"}},
    }


async def test_of_a_pod_without_uid_none_is_demanded(server: FakeApiServer, api: KubeHandover) -> None:
    server.script("post", faults.body(b"{}", 201))
    await api.evict(PodKey("ml", "train", ""))
    assert server.requests[0].json()["deleteOptions"] == {}


async def test_a_budget_that_forbids_it_for_now_is_worth_another_try(
    server: FakeApiServer, api: KubeHandover
) -> None:
    said = "Cannot evict pod as it would violate the pod's disruption budget."
    server.script("post", faults.answer(429, "TooManyRequests", said))
    with pytest.raises(ClusterUnavailable, match="could not create the eviction of Pod ml/train: Cannot evict pod"):
        await api.evict(POD)


async def test_a_pod_that_is_gone_is_not_found(api: KubeHandover) -> None:
    with pytest.raises(NotFound):
        await api.evict(POD)


async def test_one_that_was_made_anew_under_its_name_is_gone_as_well(
    server: FakeApiServer, api: KubeHandover
) -> None:
    """A StatefulSet's pods keep their names. The API server then says 409: the UID is not the one asked for."""
    said = "the UID in the precondition (uid-train) does not match the UID in record (9c1f)"
    server.script("post", faults.answer(409, "Conflict", f'Operation cannot be fulfilled on pods "train": {said}'))
    with pytest.raises(NotFound):
        await api.evict(POD)


async def test_an_eviction_that_is_not_allowed_is_denied(server: FakeApiServer, api: KubeHandover) -> None:
    server.script("post", faults.answer(403, "Forbidden"))
    with pytest.raises(Denied) as told:
        await api.evict(POD)
    assert "`kubectl auth can-i create pods/eviction`" in told.value.hint
