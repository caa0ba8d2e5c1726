"""Watches through the proxy on a real API server: what can be done to them while they are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.control_plane import ControlPlane

from cdmo.errors import ClusterUnavailable
from cdmo.kube.connect import Connection
from cdmo.kube.resources import Ask, Kind
from cdmo.kube.wire import lines
from tests.proxied import config_map, until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]

WATCH = Ask("watch", Kind("ConfigMap", "configmaps", namespaced=True), namespace="default")
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
LIMIT_S = 10.0


class Watch:
    """An open watch of one config map."""

    def __init__(self, events: AsyncIterator[bytes], control_plane: ControlPlane, name: str) -> None:
        self._events = events
        self._control_plane = control_plane
        self._name = name

    async def event(self) -> dict[str, Any]:
        """The next event. Raises StopAsyncIteration at the stream's end, ClusterUnavailable when it breaks."""
        async with asyncio.timeout(LIMIT_S):
            decoded: dict[str, Any] = msgspec.json.decode(await anext(self._events))
        return decoded

    async def data(self) -> str:
        """What the next event says."""
        return str((await self.event())["object"]["data"]["said"])

    async def say(self, text: str) -> None:
        """Change the config map on the server."""
        change = {"data": {"said": text}}
        await asyncio.to_thread(self._control_plane.api.patch, f"{CONFIG_MAPS}/{self._name}", change)


@asynccontextmanager
async def watching(connection: Connection, control_plane: ControlPlane, client: str) -> AsyncIterator[Watch]:
    """A watch whose first event has been read."""
    await asyncio.to_thread(control_plane.api.create, CONFIG_MAPS, config_map(client, said="first"))
    params = {"watch": "true", "fieldSelector": f"metadata.name={client}"}
    async with connection.stream(WATCH, params, silence_s=LIMIT_S) as chunks:
        watch = Watch(lines(chunks, WATCH), control_plane, client)
        assert await watch.data() == "first"
        yield watch


async def test_events_pass_as_they_come_and_an_open_stream_is_listed(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        for word in ("one", "two", "three"):
            await watch.say(word)
            assert await watch.data() == word
        assert proxy.streams(client=client) == [(client, "configmaps")]
    await until(lambda: not proxy.streams(client=client))


async def test_a_cut_stream_ends_in_peace_after_whole_events(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        assert proxy.cut_streams(clients=[client], resources=["pods"]) == 0
        assert proxy.cut_streams(clients=[client]) == 1
        with pytest.raises(StopAsyncIteration):
            await watch.event()
    assert proxy.streams(client=client) == []


async def test_a_reset_stream_breaks(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        assert proxy.reset_streams(clients=[client]) == 1
        with pytest.raises(ClusterUnavailable):
            await watch.event()


async def test_a_stream_cut_within_an_event_never_ends_well(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    before = proxy.counts().get("half an event", 0)
    async with watching(connection, control_plane, client) as watch:
        assert proxy.cut_within_event(clients=[client]) == 1
        assert proxy.counts().get("half an event", 0) == before  # not before there is an event
        await watch.say("half")
        with pytest.raises(ClusterUnavailable):
            await watch.event()
    assert proxy.counts()["half an event"] == before + 1


async def test_an_expired_stream_says_so_and_ends(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        proxy.expire_streams(clients=[client])
        event = await watch.event()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        with pytest.raises(StopAsyncIteration):
            await watch.event()


async def test_a_stalled_stream_says_nothing_and_then_everything(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        proxy.stall_streams(clients=[client])
        await watch.say("one")
        await watch.say("two")
        waiting = asyncio.create_task(watch.data())
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        proxy.clear()
        assert await waiting == "one"
        assert await watch.data() == "two"
        proxy.stall_streams(0.1, clients=[client])
        await watch.say("three")
        assert await watch.data() == "three"


async def test_a_stalled_stream_can_still_be_cut(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        proxy.stall_streams(clients=[client])
        await watch.say("lost")
        proxy.cut_streams(clients=[client])
        with pytest.raises(StopAsyncIteration):
            await watch.event()


async def test_replayed_events_come_again_in_their_order(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client) as watch:
        for word in ("one", "two"):
            await watch.say(word)
            assert await watch.data() == word
        proxy.replay_events(2, clients=[client])
        await watch.say("three")
        assert [await watch.data() for _ in range(3)] == ["one", "two", "three"]


async def test_a_client_that_leaves_is_noticed_without_any_event(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    async with watching(connection, control_plane, client):
        assert proxy.streams(client=client)
    await connection.aclose()
    await until(lambda: not proxy.streams(client=client))
