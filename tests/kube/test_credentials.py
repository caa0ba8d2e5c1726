"""Who this process says it is, to a server that takes it and to one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdmo.errors import Denied
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.kube.credentials import Credentials
from cdmo.kube.resources import NODE, Ask
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.kube.objects import kubeconfig, node_json

ASK = Ask("get", NODE, "n1")


async def test_credentials_go_along_and_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    async with FakeApiServer() as server:
        path = kubeconfig(tmp_path, server.url, tokenFile=str(token))
        server.store.apply("api/v1/nodes/n1", node_json("n1"))
        async with connect(ConnectSettings(kubeconfig=path), {}) as connection:
            await connection.call(ASK)
            token.write_text("second")
            server.script("get", faults.answer(401, "Unauthorized"))
            await connection.call(ASK)
            token.unlink()
            server.script("get", faults.answer(401, "Unauthorized"))
            with pytest.raises(Denied, match="get Node n1"):
                await connection.call(ASK)
    sent = [one.headers["authorization"] for one in server.requests]
    assert sent == ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]


async def test_a_watch_renews_credentials_as_a_call_does(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    async with FakeApiServer() as server:
        path = kubeconfig(tmp_path, server.url, tokenFile=str(token))
        async with connect(ConnectSettings(kubeconfig=path), {}) as connection:
            server.store.apply("api/v1/nodes/n1", node_json("n1"))
            await connection.call(ASK)
            server.script("watch", faults.answer(401, "Unauthorized"), faults.end_at_once)
            token.write_text("second")
            async with connection.stream(Ask("watch", NODE), {"watch": "true"}, 5.0) as chunks:
                assert [each async for each in chunks] == []
    assert [one.headers["authorization"] for one in server.asked("watch")] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "jane", "password": "secret"}, "Basic amFuZTpzZWNyZXQ="),
        (
            {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1beta1",
                    "command": "echo",
                    "args": ['{"status": {"token": "printed"}}'],
                }
            },
            "Bearer printed",
        ),
    ],
    ids=["token", "password", "program"],
)
async def test_whatever_a_user_shows_is_shown_and_a_refusal_of_it_is_told(
    tmp_path: Path, user: dict[str, Any], sent: str
) -> None:
    async with FakeApiServer() as server:
        server.store.apply("api/v1/nodes/n1", node_json("n1"))
        path = kubeconfig(tmp_path, server.url, **user)
        async with connect(ConnectSettings(kubeconfig=path), {}) as connection:
            await connection.call(ASK)
            server.script("get", *[faults.answer(401, "Unauthorized")] * 2)
            with pytest.raises(Denied, match="scripted 401"):
                await connection.call(ASK)
        assert {one.headers["authorization"] for one in server.requests} == {sent}


async def test_nobody_is_nobody_and_has_nothing_to_renew() -> None:
    nobody = Credentials(None, "https://10.0.0.1")
    assert await nobody.header() == {}
    assert not await nobody.renewed()
