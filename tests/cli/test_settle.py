"""`cdmo settle`: what stays, in words, and the exit status. The waiting itself: tests/kube/test_settling.py."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.test_app import COMMAND, call, one_error_and_hint, unreachable
from tests.fakes.api_server import FakeApiServer
from tests.fakes.api_store import Address
from tests.kube.objects import kubeconfig, node_json

__all__ = ["unreachable"]

LEASE = "apis/coordination.k8s.io/v1/namespaces/{}/leases/cdmo-controller"


def gpu_node(server: FakeApiServer, fence: str = "") -> None:
    """A labelled node with two slices, one of them in use."""
    labels = {"cdmo.clear.ml/gpu-partitioning": "mig"} | ({"cdmo.clear.ml/fenced": fence} if fence else {})
    node = node_json("gpu-1")
    server.store.apply("api/v1/nodes/gpu-1", {**node, "metadata": {**node["metadata"], "labels": labels}})
    devices = [{"profileId": 19, "start": slot, "state": state} for slot, state in enumerate(("InUse", "Idle"))]
    gpu = {"pciBusId": "00000000:10:00.0", "uuid": "GPU-1", "model": 0, "migMode": "Enabled", "devices": devices}
    agent = {"version": "0.1.0", "heartbeat": datetime.now(UTC).isoformat()}  # the command goes by this clock
    server.store.apply(
        "apis/cdmo.clear.ml/v1alpha1/mignodes/gpu-1",
        {"metadata": {"name": "gpu-1"}, "spec": {}, "status": {"agent": agent, "gpus": [gpu]}},
    )


async def run(server: FakeApiServer, folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """The installed command against this API server."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "settle",
        "--kubeconfig",
        str(kubeconfig(folder, server.url)),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": str(Path(sys.executable).parent), **environment},
    )
    async with asyncio.timeout(15):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_what_stays_is_said_when_nothing_is_under_way(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        gpu_node(server)
        status, out, err = await run(server, tmp_path)
    assert (status, err) == (0, "")
    rest, slices, objects, labels = out.splitlines()
    assert rest == "No node is in the middle of a change."
    assert slices == "Left as they are: 2 slices on 1 node. Pods use 1 of them and run on."
    assert objects.startswith("1 MigNode and the CRD stay")
    assert "kubectl label nodes NODE_NAME cdmo.clear.ml/gpu-partitioning-" in labels


async def test_a_change_that_does_not_end_is_an_error_and_a_hint_and_status_1(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        gpu_node(server, fence="changing")
        status, out, err = await run(server, tmp_path, "--wait", "0")
    assert (status, out) == (1, "")
    error, hint = err.splitlines()
    assert error == ("error: 1 node is in the middle of a change after 0 s (gpu-1: its GPUs are being changed)")
    assert hint.startswith("hint: try again later; ")


async def test_planning_is_held_in_the_pods_own_namespace(tmp_path: Path) -> None:
    path = LEASE.format("gpus")
    async with FakeApiServer() as server:
        server.store.apply(path, {"spec": {"holderIdentity": ""}})
        assert (await run(server, tmp_path, POD_NAMESPACE="gpus"))[0] == 0
        assert server.store.objects[Address.parse(path)]["spec"] == {"holderIdentity": ""}
        assert (await run(server, tmp_path, "--hold-planning", POD_NAMESPACE="gpus"))[0] == 0
        assert server.store.objects[Address.parse(path)]["spec"]["holderIdentity"] == "cdmo-settle"


def test_a_cluster_that_does_not_answer_is_an_error_and_a_hint(
    unreachable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "settle", "--wait", "0", "--kubeconfig", unreachable) == 1
    assert "could not list nodes" in one_error_and_hint(capsys)[0]
