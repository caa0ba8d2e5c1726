"""The status tick and the Lease, against an API that only remembers what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cdmo_harness.kubelet.api import ApiRefused
from cdmo_harness.kubelet.devices import Device
from cdmo_harness.kubelet.node import NodeAgent, NodeSettings

from tests.harness.kubelet.builders import ONE_G, SOCKET, Node

pytestmark = pytest.mark.asyncio


class RememberingApi:
    """Keeps one node and merges patches of its status into it."""

    def __init__(self, existing: Mapping[str, Any] | None = None) -> None:
        self.node: dict[str, Any] = dict(existing or {})
        self.calls: list[tuple[str, str, Any]] = []
        self.away = False

    async def call(self, method: str, path: str, body: Any = None, *, content_type: str = "") -> Any:
        if self.away:
            raise ApiRefused("no answer", 0)
        self.calls.append((method, path, body))
        if method == "POST":
            if self.node:
                raise ApiRefused("exists", 409)
            self.node = {**body, "metadata": {**body["metadata"], "uid": "u", "resourceVersion": "1"}}
        else:
            _merge(self.node, body)
        return self.node

    def patches(self) -> list[Any]:
        return [body["status"] for method, path, body in self.calls if path.endswith("/status")]


def _merge(into: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        elif value is None:
            into.pop(key, None)
        else:
            into[key] = value


def agent(api: RememberingApi, devices: Node, *, fresh: bool = False) -> NodeAgent:
    settings = NodeSettings("n", {"zone": "a"}, {"cpu": "64", "pods": "110"}, "127.0.0.1", "v1.37.0", 10.0)
    return NodeAgent(
        settings,
        api,  # type: ignore[arg-type]
        devices.manager,
        Path("/nonexistent"),
        lambda: datetime(2026, 1, 1, tzinfo=UTC),
        lambda: devices.time,
        Random(1),
        fresh=fresh,
    )


async def test_a_new_node_is_ready_and_carries_its_labels() -> None:
    api = RememberingApi()
    await agent(api, Node()).register()
    assert api.node["metadata"]["labels"]["kubernetes.io/hostname"] == "n"
    assert api.node["metadata"]["labels"]["zone"] == "a"
    ready = {c["type"]: c["status"] for c in api.node["status"]["conditions"]}
    assert ready["Ready"] == "True"
    assert api.node["status"]["allocatable"]["cpu"] == "64"


async def test_a_tick_writes_only_what_differs() -> None:
    api, devices = RememberingApi(), Node()
    kubelet = agent(api, devices)
    await kubelet.register()
    await kubelet.tick()
    devices.offers("MIG-a")
    await kubelet.tick()
    written = api.patches()[-1]
    assert written.keys() == {"capacity", "allocatable", "conditions"}
    assert written["capacity"] == {ONE_G: "1"}
    assert written["allocatable"] == {ONE_G: "1"}


async def test_a_tick_with_no_news_is_silent_for_five_minutes() -> None:
    api, devices = RememberingApi(), Node()
    kubelet = agent(api, devices)
    await kubelet.register()
    await kubelet.tick()
    before = len(api.patches())
    devices.time += 299
    await kubelet.tick()
    assert len(api.patches()) == before
    devices.time += 2
    await kubelet.tick()
    assert api.patches()[-1].keys() == {"conditions"}


async def test_what_an_agent_wrote_before_is_not_written_again() -> None:
    api, devices = RememberingApi(), Node()
    kubelet = agent(api, devices)
    await kubelet.register()
    await kubelet.tick()
    devices.offers("MIG-a")
    _merge(api.node, {"status": {"capacity": {ONE_G: "1"}, "allocatable": {ONE_G: "1"}}})
    before = len(api.patches())
    await kubelet.tick()
    assert len(api.patches()) == before


async def test_a_zero_an_agent_wrote_for_a_vanished_profile_goes_back_to_the_old_capacity() -> None:
    api, devices = RememberingApi(), Node()
    kubelet = agent(api, devices)
    devices.offers("MIG-a")
    await kubelet.register()
    devices.manager.plugin_disconnected(ONE_G, SOCKET)
    _merge(api.node, {"status": {"capacity": {ONE_G: "0"}, "allocatable": {ONE_G: "0"}}})
    await kubelet.tick()
    assert (api.node["status"]["capacity"][ONE_G], api.node["status"]["allocatable"][ONE_G]) == ("1", "0")


async def test_a_node_taken_over_without_a_checkpoint_loses_its_extended_resources() -> None:
    amounts = {"cpu": "64", ONE_G: "7"}
    existing = {"metadata": {"uid": "u"}, "status": {"capacity": dict(amounts), "allocatable": dict(amounts)}}
    api = RememberingApi(existing)
    await agent(api, Node(), fresh=True).register()
    assert api.node["status"]["capacity"] == {"cpu": "64", ONE_G: "0"}


async def test_a_tick_while_the_api_is_away_is_made_up_for_at_the_next() -> None:
    api, devices = RememberingApi(), Node()
    kubelet = agent(api, devices)
    await kubelet.register()
    devices.manager.devices_listed(ONE_G, [Device("MIG-a")])
    devices.offers("MIG-a")
    api.away = True
    await kubelet.tick()
    api.away = False
    await kubelet.tick()
    assert api.node["status"]["allocatable"][ONE_G] == "1"
