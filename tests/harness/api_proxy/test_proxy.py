"""The proxy on a real API server: every fault is what its name says, and hits nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.errors import HarnessError

from cdmo.errors import AlreadyExists, ClusterUnavailable, Expired
from cdmo.kube.connect import Connection
from cdmo.kube.errors import retry_after_s
from cdmo.kube.resources import NODE, POD, Ask, Kind
from tests.proxied import config_map, proxy_before, through, until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio]

CONFIG_MAP = Kind("ConfigMap", "configmaps", namespaced=True)
LIST = Ask("list", CONFIG_MAP, namespace="default")
CREATE = Ask("create", CONFIG_MAP, namespace="default")


async def create(connection: Connection, name: str) -> None:
    """A config map."""
    await connection.call(CREATE, body=msgspec.json.encode(config_map(name)))


def exists(control_plane: ControlPlane, name: str) -> bool:
    """Whether the server has the config map."""
    return control_plane.api.answers(f"/api/v1/namespaces/default/configmaps/{name}")


async def test_without_faults_requests_and_answers_pass_unchanged(
    connection: Connection, control_plane: ControlPlane
) -> None:
    assert (await connection.check()).startswith("v1.")
    await create(connection, "passes")
    assert exists(control_plane, "passes")
    with pytest.raises(AlreadyExists):
        await create(connection, "passes")
    names = {each["metadata"]["name"] for each in msgspec.json.decode(await connection.call(LIST))["items"]}
    assert "passes" in names


async def test_refused_requests_never_reach_the_server(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    proxy.answer(429, clients=[client], verbs=["create"], retry_after=7, times=1)
    with pytest.raises(ClusterUnavailable) as refused:
        await create(connection, "refused")
    assert retry_after_s(refused.value) == 7
    assert not exists(control_plane, "refused")
    await create(connection, "refused")


async def test_410_is_for_lists_and_watches_and_says_expired(
    proxy: ApiProxy, connection: Connection, client: str
) -> None:
    proxy.answer(410, clients=[client])
    with pytest.raises(Expired):
        await connection.call(LIST)
    await create(connection, "not-a-list")


async def test_faults_hit_no_other_client(
    proxy: ApiProxy, connection: Connection, kubeconfig: Path, client: str
) -> None:
    proxy.answer(503, clients=[client])
    proxy.refuse_connections(clients=[client])
    async with through(proxy, kubeconfig, f"{client}-other") as other:
        await other.call(LIST)
    with pytest.raises(ClusterUnavailable):
        await connection.call(LIST)


async def test_a_write_whose_answer_is_lost_was_carried_out(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    proxy.lose_answers(clients=[client])
    with pytest.raises(ClusterUnavailable):
        await create(connection, "committed")
    assert exists(control_plane, "committed")
    assert proxy.counts()["lost answer"] >= 1
    await connection.call(LIST)  # reads are spared


async def test_a_black_hole_takes_requests_and_never_answers(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    proxy.black_hole(clients=[client], times=1)
    with pytest.raises(ClusterUnavailable, match="no answer in time"):
        await connection.call(CREATE, body=msgspec.json.encode(config_map("lost")), limit_s=0.5)
    assert not exists(control_plane, "lost")
    await create(connection, "lost")


async def test_a_late_request_is_carried_out_although_its_sender_gave_up(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    proxy.slow(2.0, before=True, clients=[client], times=1)
    sender = asyncio.create_task(create(connection, "late"))
    await until(lambda: proxy.seen(clients=[client]) > 0)
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    await until(lambda: exists(control_plane, "late"))


async def test_a_slow_answer_comes_after_the_server_acted(
    proxy: ApiProxy, connection: Connection, control_plane: ControlPlane, client: str
) -> None:
    await connection.check()  # connected
    proxy.slow(1000.0, clients=[client], verbs=["create"])
    with pytest.raises(ClusterUnavailable):
        await connection.call(CREATE, body=msgspec.json.encode(config_map("slow")), limit_s=0.5)
    assert exists(control_plane, "slow")


async def test_refused_connections_are_taken_again_when_the_time_is_over(
    proxy: ApiProxy, connection: Connection, client: str
) -> None:
    await connection.check()
    number = proxy.refuse_connections(clients=[client], seconds=60.0)
    await connection.check()  # what is open lives on
    assert proxy.drop_connections(clients=[client]) == 1
    with pytest.raises(ClusterUnavailable):
        await connection.check()
    proxy.remove(number)
    await connection.check()
    proxy.refuse_connections(clients=[client], seconds=0.2)
    proxy.drop_connections(clients=[client])

    async def again() -> None:
        while True:
            try:
                await connection.check()
            except ClusterUnavailable:
                await asyncio.sleep(0)
            else:
                return

    async with asyncio.timeout(10):
        await again()


async def test_swallowed_connections_get_no_answer_at_all(
    proxy: ApiProxy, connection: Connection, client: str
) -> None:
    proxy.swallow_connections(clients=[client])
    with pytest.raises(ClusterUnavailable, match="no answer in time"):
        await connection.call(LIST, limit_s=0.5)
    proxy.clear()
    await connection.call(LIST)


async def test_a_client_that_was_cut_off_is_back_after_clear(
    proxy: ApiProxy, connection: Connection, client: str
) -> None:
    await connection.check()
    proxy.cut_off(client)
    for _ in range(2):  # on the open connection, then on a new one
        with pytest.raises(ClusterUnavailable, match="no answer in time"):
            await connection.call(LIST, limit_s=0.3)
    proxy.clear()
    await connection.call(LIST)


async def test_a_proxy_that_is_not_started_or_not_possible_says_so(tmp_path: Path) -> None:
    unstarted = ApiProxy("https://127.0.0.1:1", b"", tmp_path, seed=1)
    with pytest.raises(HarnessError, match="not started"):
        _ = unstarted.process
    with pytest.raises(HarnessError, match="does not answer"):
        unstarted.counts()
    with pytest.raises(HarnessError, match="not the address"):
        ApiProxy("http://127.0.0.1:1", b"", tmp_path, seed=1)


async def test_a_server_that_is_away_is_away_through_the_proxy(
    control_plane: ControlPlane, connection: Connection
) -> None:
    await connection.check()
    await asyncio.to_thread(control_plane.stop_api_server, grace=0)
    try:
        with pytest.raises(ClusterUnavailable):
            await connection.check()  # the connection broke with the server's
        with pytest.raises(ClusterUnavailable):
            await connection.check()  # and no new one comes about
    finally:
        await asyncio.to_thread(control_plane.start_api_server)
    await connection.check()


async def test_a_kubeconfig_without_a_token_is_refused(proxy: ApiProxy, control_plane: ControlPlane) -> None:
    with pytest.raises(HarnessError, match="no token"):
        proxy.kubeconfig_for(control_plane.admin_kubeconfig, "admin")


async def test_what_was_asked_for_is_counted_by_client(proxy: ApiProxy, connection: Connection, client: str) -> None:
    await connection.call(Ask("list", NODE))
    await connection.call(Ask("list", NODE))
    await connection.call(Ask("list", POD))
    assert proxy.seen(clients=[client], resources=["nodes"]) == 2
    assert proxy.seen(clients=[client]) == 3


async def test_a_proxy_that_was_killed_comes_back_on_the_same_ports(
    control_plane: ControlPlane, kubeconfig: Path
) -> None:
    with proxy_before(control_plane) as mortal:
        async with through(mortal, kubeconfig) as connection:
            await connection.check()
            mortal.answer(503)
            mortal.process.stop(grace=0)
            with pytest.raises(ClusterUnavailable):
                await connection.check()
            with pytest.raises(HarnessError, match="does not answer"):
                mortal.counts()
            mortal.stop()
            await asyncio.to_thread(mortal.start)
            await connection.check()
            assert mortal.counts() == {}
