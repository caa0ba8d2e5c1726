"""Connections: where credentials come from, and what is said when they or the server are of no use."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from cdmo.errors import BadSettings, ClusterError, ClusterUnavailable, NotFound
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.kube.resources import NODE, Ask
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.kube.objects import connection_to, kubeconfig, node_json

ASK = Ask("get", NODE, "n1")


def refused(settings: ConnectSettings, environment: dict[str, str] | None = None) -> BadSettings:
    """The complaint about these settings: one sentence and a hint."""
    with pytest.raises(BadSettings) as caught:
        connect(settings, environment or {})
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere" in str(refused(ConnectSettings(kubeconfig=tmp_path / "nowhere")))


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "just words", "{a: [", "contexts: []", '{"clusters": null, "contexts": null}', "\x00"),
        pytest.param("[" * 50_000, id="nested deeply"),
        pytest.param("a: &a [x, x]\n" + "".join(f"{n}: &{n} [*a, *a]\n" for n in range(9)) + "---\n", id="two"),
        pytest.param("#" * (1 << 20) + "\n{}", id="too long"),
    ],
)
def test_a_kubeconfig_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    assert str(path) in str(refused(ConnectSettings(kubeconfig=path)))


def broken(folder: Path, change: Any) -> Path:
    """A kubeconfig with one thing made wrong."""
    path = kubeconfig(folder, "https://kubernetes.example:6443")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update({"current-context": "other"}),
        lambda content: content.pop("current-context"),
        lambda content: content["contexts"][0]["context"].update(cluster="gone"),
        lambda content: content["contexts"][0]["context"].update(user="gone"),
        lambda content: content["clusters"][0]["cluster"].update(server="kubernetes.example"),
        lambda content: content["clusters"][0]["cluster"].update(server="https://[::1"),
        lambda content: content["clusters"][0]["cluster"].update(server="https://kubernetes.example:65536"),
        lambda content: content["clusters"][0]["cluster"].update({"certificate-authority": "/nowhere/ca.crt"}),
        lambda content: content["clusters"][0]["cluster"].update({"certificate-authority-data": "bm90IHBlbQ=="}),
        lambda content: content["users"][0]["user"].update({"client-certificate": "/nowhere", "client-key": "/x"}),
        lambda content: content["users"][0]["user"].update({"auth-provider": {"name": "old"}}),
    ],
)
def test_a_kubeconfig_with_one_thing_wrong_is_refused(tmp_path: Path, change: Any) -> None:
    refused(ConnectSettings(kubeconfig=broken(tmp_path, change)))


def test_an_unknown_context_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://kubernetes.example:6443")
    assert "staging" in str(refused(ConnectSettings(kubeconfig=path, context="staging")))


def test_several_files_in_the_environment_are_not_guessed_at(tmp_path: Path) -> None:
    refused(ConnectSettings(service_account=tmp_path), {"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/b"})


def test_a_service_account_without_a_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "namespace").write_text("cdmo")
    complaint = refused(ConnectSettings(service_account=tmp_path))
    assert "KUBERNETES_SERVICE_HOST" in str(complaint)
    assert "secret" not in str(complaint)


@pytest.mark.asyncio
async def test_the_environments_kubeconfig_is_used(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://kubernetes.example:6443/")
    settings = ConnectSettings(service_account=tmp_path / "none")
    async with connect(settings, {"KUBECONFIG": str(path)}) as connection:
        assert connection.server == "https://kubernetes.example:6443"
        assert connection.namespace == "default"


@pytest.mark.asyncio
async def test_a_server_that_answers_tells_its_version(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        server.script("get", faults.body(b'{"gitVersion": "v1.37.2"}'))
        assert await connection.check() == "v1.37.2"


@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses for as long as the test runs
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with connection_to(url, tmp_path) as connection:
            with pytest.raises(ClusterUnavailable, match=url) as caught:
                await connection.check()
    assert "reachable" in caught.value.hint


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../../secrets?x=1", "..%2F..%2Fsecrets%3Fx%3D1"),
        ("a b", "a%20b"),
        ("%2e%2e", "%252e%252e"),
    ],
)
async def test_a_name_stays_one_part_of_its_path(tmp_path: Path, name: str, sent: str) -> None:
    heads: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    ask = Ask("get", NODE, name)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, connection_to(url, tmp_path) as connection:
        with pytest.raises(NotFound):
            await connection.call(ask, params={"fieldSelector": "metadata.name=a b&c"})
    target = heads[0].split(b" ")[1].decode()
    assert target == f"/api/v1/nodes/{sent}?fieldSelector=metadata.name%3Da%20b%26c"


@pytest.mark.asyncio
@pytest.mark.parametrize("server", ["https://10.0.0.1:70000", "https://10.0.0.1:-1", "https://[::1"])
async def test_a_sibling_with_an_address_that_is_none_is_a_failure_like_others(tmp_path: Path, server: str) -> None:
    async with FakeApiServer() as known, connection_to(known.url, tmp_path) as connection:
        with pytest.raises(ClusterError, match="could not get Node n1") as caught:
            await connection.call(ASK, server=server)
    assert "URL" in caught.value.hint


@pytest.mark.asyncio
async def test_a_call_that_is_never_answered_ends_at_its_limit(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        server.script("get", faults.hang)
        with pytest.raises(ClusterUnavailable, match="no answer in time"):
            await connection.call(ASK, limit_s=0.1)


@pytest.mark.asyncio
async def test_a_handshake_that_is_never_answered_leaves_no_socket_open(tmp_path: Path) -> None:
    """A server that hangs accepts connections, as its kernel does, and says nothing."""
    closed = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connection_to(f"https://127.0.0.1:{port}", tmp_path) as connection:
        with pytest.raises(ClusterUnavailable, match="no answer in time"):
            await connection.call(ASK, limit_s=0.5)
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.mark.asyncio
async def test_a_cancelled_call_is_cancelled_and_not_translated(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        server.script("get", faults.hang)
        task = asyncio.create_task(connection.call(ASK))
        async with asyncio.timeout(5):
            while not server.requests:  # noqa: ASYNC110  (the fake has no event for it)
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.asyncio
async def test_no_proxy_of_the_environment_stands_between_this_machine_and_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        server.store.apply("api/v1/nodes/n1", node_json("n1"))
        assert b"n1" in await connection.call(ASK)


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_a_proxy_of_the_environment_is_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with FakeApiServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", scheme))
        proxy.store.apply("api/v1/nodes/n1", node_json("n1"))
        async with connection_to("http://kubernetes.example:6443", tmp_path) as connection:
            assert b"n1" in await connection.call(ASK)
        assert [one.headers["host"] for one in proxy.requests] == ["kubernetes.example:6443"]


def test_a_proxy_of_another_kind_is_refused_and_its_password_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", "socks5://me:secret@proxy.example:1080")
    complaint = refused(ConnectSettings(kubeconfig=kubeconfig(tmp_path, "https://kubernetes.example:6443")))
    assert "socks5" in str(complaint)
    assert "secret" not in f"{complaint}{complaint.hint}"


@pytest.mark.asyncio
async def test_a_peer_that_vanished_without_a_word_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *kind: Any, **more: Any) -> None:
            super().__init__(*kind, **more)
            opened.append(self)

    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        server.store.apply("api/v1/nodes/n1", node_json("n1"))
        monkeypatch.setattr(socket, "socket", Noted)
        await connection.call(ASK)
        assert opened[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert opened[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
