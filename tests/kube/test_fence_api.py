"""The fence's requests: what goes over the wire, and which answers are believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdmo.errors import ClusterUnavailable, Conflict, Invalid, NotFound
from cdmo.kube.fence_api import KubeFence
from cdmo.model.cluster import Taint
from cdmo.model.names import FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.fakes.clock import HastyClock
from tests.kube.objects import POD_PATH, connection_to, node_json, pod_json

pytestmark = pytest.mark.asyncio

OTHERS = {"key": "team", "value": "ml", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}
SLICES = "apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


@asynccontextmanager
async def fence(folder: Path) -> AsyncIterator[tuple[FakeApiServer, KubeFence]]:
    """The adapter on a fake API server with one node."""
    async with FakeApiServer() as server, connection_to(server.url, folder) as connection:
        server.store.apply("api/v1/nodes/n1", node_json("n1", taints=[OTHERS]))
        yield server, KubeFence(connection, HastyClock(), lambda: 0.5)


def stored(server: FakeApiServer, **spec: Any) -> msgspec.Raw:
    """The node as a watch tells of it, after it was written so."""
    server.store.apply("api/v1/nodes/n1", node_json("n1", **spec))
    (node,) = server.store.objects.values()
    return msgspec.Raw(json.dumps(node).encode())


def taints(server: FakeApiServer) -> Any:
    """As the server has them."""
    (node,) = server.store.objects.values()
    return node["spec"].get("taints")


async def test_the_taint_goes_up_once_and_others_keep_every_field(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        for _ in range(2):
            await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert taints(server) == [OTHERS, {"key": REPARTITIONING_TAINT, "effect": "NoSchedule"}]
        assert len(server.asked("patch")) == 1
        assert (await api.node("n1")).taints[1] == Taint(REPARTITIONING_TAINT, "", "NoSchedule")


async def test_every_taint_of_the_key_is_taken_off_and_none_is_fine(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoExecute")
        for _ in range(2):
            await api.remove_taint("n1", REPARTITIONING_TAINT)
        assert taints(server) == [OTHERS]
        assert len(server.asked("patch")) == 3


async def test_a_taint_that_somebody_else_adds_in_between_is_not_lost(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        second = {"key": "second", "effect": "NoSchedule"}

        async def somebody_is_faster(exchange: Any) -> None:
            server.store.apply("api/v1/nodes/n1", node_json("n1", taints=[OTHERS, second]))
            await server.serve(exchange)

        server.script("patch", somebody_is_faster)
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert [one["key"] for one in taints(server)] == ["team", "second", REPARTITIONING_TAINT]


async def test_a_conflict_without_end_is_told(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        server.script("patch", *[faults.answer(409, "Conflict")] * 20)
        with pytest.raises(Conflict):
            await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert len(server.asked("patch")) == 8


async def test_labels_are_merged_and_none_removes(tmp_path: Path) -> None:
    async with fence(tmp_path) as (_, api):
        await api.set_labels("n1", {"a": "1", "b": "2"})
        await api.set_labels("n1", {"a": None})
        assert (await api.node("n1")).labels == {"kubernetes.io/hostname": "n1", "b": "2"}


async def test_a_label_is_swapped_only_over_the_value_it_was_thought_to_have_and_beside_its_taint(
    tmp_path: Path,
) -> None:
    async with fence(tmp_path) as (server, api):
        await api.set_labels("n1", {"a": "1"})
        assert not await api.swap_label("n1", "a", "1", "2", beside=REPARTITIONING_TAINT)
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert not await api.swap_label("n1", "a", "0", "2", beside=REPARTITIONING_TAINT)
        assert (await api.node("n1")).labels["a"] == "1"
        server.script("patch", faults.answer(409, "Conflict"))
        assert await api.swap_label("n1", "a", "1", "2", beside=REPARTITIONING_TAINT)
        assert (await api.node("n1")).labels["a"] == "2"


@pytest.mark.parametrize("value", ["1", None])
async def test_label_and_taint_are_taken_off_in_one_write_if_the_label_is_as_thought(
    tmp_path: Path, value: str | None
) -> None:
    async with fence(tmp_path) as (server, api):
        await api.set_labels("n1", {"a": value})
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        before = len(server.asked("patch"))
        assert not await api.take_off("n1", "a", "other", REPARTITIONING_TAINT)
        assert len(server.asked("patch")) == before
        assert await api.take_off("n1", "a", value, REPARTITIONING_TAINT)
        assert len(server.asked("patch")) == before + 1
        node = await api.node("n1")
        assert "a" not in node.labels
        assert REPARTITIONING_TAINT not in {each.key for each in node.taints}


@pytest.mark.parametrize("version", ["", "abc", "-1", "9" * 21])
async def test_a_version_that_cannot_be_compared_is_refused(tmp_path: Path, version: str) -> None:
    async with fence(tmp_path) as (server, api):
        answer = {"metadata": {"name": "n1", "resourceVersion": version}}
        server.script("patch", faults.body(json.dumps(answer).encode(), 200))
        with pytest.raises(Invalid, match="is no number"):
            await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")


async def test_capacity_and_allocatable_are_written_to_the_status_alone(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        one, three = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
        await api.set_mig_capacity("n1", {one: 7, three: 0}, {one: 5, three: 0})
        (request,) = server.asked("patch")
        assert request.path == "/api/v1/nodes/n1/status"
        assert request.json()["status"] == {
            "capacity": {one: "7", three: "0"},
            "allocatable": {one: "5", three: "0"},
        }


async def test_every_write_names_the_version_it_was_made_from(tmp_path: Path) -> None:
    """One that is carried out late, after its sender gave it up and went on, is then refused."""
    async with fence(tmp_path) as (server, api):
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        await api.set_mig_capacity("n1", {"nvidia.com/mig-1g.10gb": 7}, {"nvidia.com/mig-1g.10gb": 7})
        await api.remove_taint("n1", REPARTITIONING_TAINT)
        await api.set_labels("n1", {FENCE_LABEL: None})
        versions = [each.json()["metadata"]["resourceVersion"] for each in server.asked("patch")]
    assert len(set(versions)) == 5


async def test_writes_in_a_row_are_made_from_the_answer_before(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        node, _ = await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert node.taints[1] == Taint(REPARTITIONING_TAINT, "", "NoSchedule")
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        assert await api.swap_label("n1", FENCE_LABEL, FENCE_VALUE, "changing", beside=REPARTITIONING_TAINT)
        await api.set_mig_capacity("n1", {"nvidia.com/mig-1g.10gb": 7}, {"nvidia.com/mig-1g.10gb": 7})
        assert (len(server.asked("get")), len(server.asked("patch"))) == (1, 4)


async def test_an_answer_that_is_out_of_date_costs_a_reading_and_nothing_of_what_others_wrote(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        await api.set_labels("n1", {"a": "1"})
        server.store.apply("api/v1/nodes/n1", node_json("n1", taints=[OTHERS, {**OTHERS, "key": "second"}]))
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert [one["key"] for one in taints(server)] == ["team", "second", REPARTITIONING_TAINT]
        assert "a" not in (await api.node("n1")).labels


async def test_that_there_is_nothing_to_do_is_believed_of_no_answer_but_a_fresh_reading(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        server.store.apply("api/v1/nodes/n1", node_json("n1"))  # somebody takes it off
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        assert (await api.node("n1")).labels[FENCE_LABEL] == FENCE_VALUE
        server.store.apply("api/v1/nodes/n1", node_json("n1"))
        assert not await api.swap_label("n1", FENCE_LABEL, FENCE_VALUE, "changing", beside=REPARTITIONING_TAINT)


async def test_an_answer_of_long_ago_is_not_tried(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        server.store.apply("api/v1/nodes/n1", node_json("n1"))
        clock = HastyClock()
        api = KubeFence(connection, clock, lambda: 0.5)
        for number in range(2):
            await api.set_labels("n1", {"a": str(number)})
            await clock.sleep(60.0)
        assert (len(server.asked("get")), len(server.asked("patch"))) == (2, 2)


async def test_labels_change_only_on_a_node_that_is_as_provided(tmp_path: Path) -> None:
    async with fence(tmp_path) as (_, api):
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        assert not await api.set_labels("n1", {FENCE_LABEL: None}, lambda node: "a" in node.labels)
        assert (await api.node("n1")).labels[FENCE_LABEL] == FENCE_VALUE
        await api.set_labels("n1", {"a": "1"})
        assert await api.set_labels("n1", {FENCE_LABEL: None}, lambda node: "a" in node.labels)
        assert FENCE_LABEL not in (await api.node("n1")).labels


async def test_what_came_after_the_last_answer_counts_for_what_is_provided(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        one = "nvidia.com/mig-1g.10gb"
        await api.set_mig_capacity("n1", {one: 7}, {one: 7})
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        fenced = node_json("n1", allocatable={one: "2"})
        fenced["metadata"]["labels"][FENCE_LABEL] = FENCE_VALUE
        server.store.apply("api/v1/nodes/n1", fenced)  # a report of the kubelet
        assert not await api.set_labels("n1", {FENCE_LABEL: None}, lambda node: node.allocatable.get(one) == 7)
        assert (await api.node("n1")).labels[FENCE_LABEL] == FENCE_VALUE


async def test_a_write_is_made_from_what_a_watch_says_however_long_ago(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        clock = HastyClock()
        api = KubeFence(connection, clock, lambda: 0.5)
        assert api.watched(stored(server, taints=[OTHERS])).name == "n1"
        await clock.sleep(600.0)
        await api.set_taint("n1", REPARTITIONING_TAINT, "NoSchedule")
        assert taints(server) == [OTHERS, {"key": REPARTITIONING_TAINT, "effect": "NoSchedule"}]
        assert (len(server.asked("get")), len(server.asked("patch"))) == (0, 1)


async def test_a_watch_that_is_behind_the_last_answer_changes_nothing(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        before = stored(server, taints=[OTHERS])
        await api.set_labels("n1", {"a": "1"})
        api.watched(before)
        await api.set_labels("n1", {"a": "2"})
        assert (len(server.asked("get")), len(server.asked("patch"))) == (1, 2)


async def test_what_a_watch_says_of_another_node_is_not_written_onto_this_one(tmp_path: Path) -> None:
    async with fence(tmp_path) as (_, api):
        other = node_json("other")
        other["metadata"]["resourceVersion"] = "900"
        api.watched(msgspec.Raw(json.dumps(other).encode()))
        await api.set_labels("n1", {"a": "1"})
        assert (await api.node("n1")).labels["a"] == "1"


async def test_a_watched_node_that_cannot_be_written_is_still_seen(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        assert api.watched(stored(server, taints=[{**OTHERS, "seconds": 3}])).taints[0].key == "team"
        with pytest.raises(Invalid, match="taints"):
            await api.set_labels("n1", {"a": "1"})


async def test_a_label_that_is_as_it_should_be_is_not_written(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        await api.set_labels("n1", {FENCE_LABEL: None})
        assert not server.asked("patch")


async def test_a_node_that_somebody_else_changed_in_between_is_read_again(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        server.script("patch", faults.answer(409, "Conflict"))
        await api.set_labels("n1", {FENCE_LABEL: FENCE_VALUE})
        assert (await api.node("n1")).labels[FENCE_LABEL] == FENCE_VALUE
        assert len(server.asked("patch")) == 2


async def test_a_node_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with fence(tmp_path) as (_, api):
        with pytest.raises(NotFound, match="get Node n2"):
            await api.node("n2")


async def test_bound_and_nominated_pods_come_from_quorum_reads_nominated_first(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        cases: tuple[tuple[str, Any, Any], ...] = (
            ("bound", {"nodeName": "n1"}, {}),
            ("nominated", {}, {"nominatedNodeName": "n1"}),
            ("both", {"nodeName": "n1"}, {"nominatedNodeName": "n1"}),
            ("elsewhere", {"nodeName": "n2"}, {}),
        )
        for name, spec, status in cases:
            server.store.apply(f"{POD_PATH}/{name}", pod_json(name, status=status, **spec))
        found = await api.pods_on("n1")
        assert [pod.key.name for pod in found] == ["both", "bound", "nominated"]
        assert [one.query["fieldSelector"] for one in server.asked("list")] == [
            "status.nominatedNodeName=n1",
            "spec.nodeName=n1",
        ]
        assert all("resourceVersion" not in one.query for one in server.asked("list"))


async def test_a_pod_that_cannot_be_judged_stops_the_change(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        server.store.apply(f"{POD_PATH}/odd", pod_json("odd", nodeName="n1", priority="high"))
        with pytest.raises(Invalid, match="priority"):
            await api.pods_on("n1")


async def test_a_list_that_outlives_its_token_is_read_again(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        for number in range(501):
            server.store.apply(f"{POD_PATH}/p{number}", pod_json(f"p{number}", nodeName="n1"))
        server.script("more", faults.answer(410, "Expired"))
        assert len(await api.pods_on("n1")) == 501


def endpoint_slice(*addresses: str, kind: str = "IPv4", port: str = "https") -> Any:
    """An EndpointSlice of the API servers."""
    return {
        "addressType": kind,
        "endpoints": [{"addresses": [one]} for one in addresses],
        "ports": [{"name": port, "port": 6443}],
    }


async def test_every_api_server_is_listed_the_configured_one_first(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        server.store.apply(f"{SLICES}/kubernetes", endpoint_slice("10.0.0.3", "10.0.0.2"))
        server.store.apply(f"{SLICES}/six", endpoint_slice("fd00::2", kind="IPv6"))
        assert await api.api_servers() == (
            server.url,
            "https://10.0.0.2:6443",
            "https://10.0.0.3:6443",
            "https://[fd00::2]:6443",
        )


@pytest.mark.parametrize(
    "useless",
    [
        {},
        {"addressType": "IPv4", "endpoints": None, "ports": None},
        endpoint_slice("127.0.0.1"),
        endpoint_slice("kubernetes.example", kind="FQDN"),
        endpoint_slice("10.0.0.2", port="metrics"),
    ],
)
async def test_without_usable_addresses_the_configured_server_stands_alone(tmp_path: Path, useless: Any) -> None:
    async with fence(tmp_path) as (server, api):
        server.store.apply(f"{SLICES}/kubernetes", useless)
        assert await api.api_servers() == (server.url,)


async def test_without_the_right_to_read_them_the_configured_server_stands_alone(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        server.script("list", faults.answer(403, "Forbidden"))
        assert await api.api_servers() == (server.url,)


async def test_api_servers_that_cannot_be_learnt_now_are_not_guessed(tmp_path: Path) -> None:
    async with fence(tmp_path) as (server, api):
        server.script("list", faults.answer(503))
        with pytest.raises(ClusterUnavailable):
            await api.api_servers()
