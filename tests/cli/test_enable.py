"""`cdmo enable` as people and scripts meet it. What it does step by step: tests/handover/test_enable.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cdmo.cli.app import app
from tests.cli.test_app import call, one_error_and_hint, unreachable
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.fakes.api_store import Address
from tests.kube.objects import kubeconfig, node_json

__all__ = ["unreachable"]

# Exit status, stdout and stderr of a command.
Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]

LABEL, ANNOTATION = "cdmo.clear.ml/gpu-partitioning", "cdmo.clear.ml/mig-mode"
BUS = "00000000:10:00.0"
PROFILE = {
    "id": 9,
    "name": "3g.40gb",
    "resource": "nvidia.com/mig-3g.40gb",
    "computeSlices": 3,
    "size": 4,
    "starts": [0, 4],
    "max": 2,
    "memoryMiB": 40448,
}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


def node(server: FakeApiServer, name: str = "gpu-1", *, labelled: bool = False, whole: int = 0) -> None:
    """A node with one GPU."""
    content = node_json(name, allocatable={"nvidia.com/gpu": str(whole)})
    if labelled:
        content["metadata"] |= {"labels": {LABEL: "mig"}, "annotations": {ANNOTATION: "when-idle"}}
    server.store.apply(f"api/v1/nodes/{name}", content)


def mignode(
    server: FakeApiServer, name: str = "gpu-1", *, mode: str = "Enabled", spec: str = "Managed", mig: bool = True
) -> None:
    """Its MigNode, with an agent that is alive; `mode`: its GPU's MIG mode. `mig`: the card has it."""
    model = {"product": "NVIDIA H100 80GB HBM3", "memorySlots": 8, "profiles": [PROFILE] if mig else []}
    devices = [{"profileId": 9, "start": 0, "uuid": "MIG-1"}] if mode == "Enabled" else []
    gpu = {"pciBusId": BUS, "uuid": "GPU-1", "model": 0, "migMode": mode, "devices": devices}
    agent = {"version": "0.1.0", "heartbeat": datetime.now(UTC).isoformat()}  # the command goes by this clock
    content = {
        "metadata": {"name": name, "generation": 1},
        "spec": {"mode": spec},
        "status": {"observedGeneration": 1, "agent": agent, "models": [model], "gpus": [gpu]},
    }
    server.store.apply(f"apis/cdmo.clear.ml/v1alpha1/mignodes/{name}", content)


def metadata(server: FakeApiServer, name: str = "gpu-1") -> dict[str, Any]:
    """The Node's, as it lies there."""
    return dict(server.store.objects[Address.parse(f"api/v1/nodes/{name}")]["metadata"])


@pytest.fixture
def run(
    server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The command against this API server, in a thread: it has an event loop of its own."""

    async def command(*arguments: str) -> tuple[int, str, str]:
        whole = (*arguments, "--kubeconfig", kubeconfig(tmp_path, server.url))
        async with asyncio.timeout(15):
            status = await asyncio.to_thread(call, monkeypatch, *whole)
        return status, *capsys.readouterr()

    return command


async def test_a_node_that_is_ready_gets_label_and_annotation_and_status_0(server: FakeApiServer, run: Run) -> None:
    node(server)
    mignode(server)
    assert await run("enable", "gpu-1") == (0, "gpu-1: MIG mode is on on 1 of 1 GPUs\n", "")
    assert metadata(server)["labels"][LABEL] == "mig"
    assert metadata(server)["annotations"] == {ANNOTATION: "when-idle"}


@pytest.mark.parametrize(("option", "annotations"), [("--manual", {}), ("--reset", {ANNOTATION: "when-idle"})])
async def test_manual_leaves_the_mode_alone_and_reset_is_a_permission_for_once(
    option: str, annotations: dict[str, str], server: FakeApiServer, run: Run
) -> None:
    node(server)
    mignode(server)
    status, _, err = await run("enable", option, "gpu-1")
    assert (status, err) == (0, "")
    assert metadata(server)["labels"][LABEL] == "mig"
    assert metadata(server).get("annotations", {}) == annotations


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(server: FakeApiServer, run: Run) -> None:
    for name in ("gpu-1", "gpu-2"):
        node(server, name, labelled=name == "gpu-2")
    status, out, err = await run("enable", "gpu-1", "gpu-2", "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"gpu-1: annotate with {ANNOTATION}=when-idle",
        f"gpu-1: label with {LABEL}=mig",
        "gpu-2: nothing, it is CDMO's already",
    ]
    assert {each.method for each in server.requests} == {"GET"}


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
async def test_one_node_that_is_missing_stops_it_before_anything_is_done_to_the_others(
    option: list[str], server: FakeApiServer, run: Run
) -> None:
    node(server)
    mignode(server)
    answer = await run("enable", "gpu-1", "nowhere", *option)
    assert answer == (1, "", "error: there is no node nowhere\nhint: `kubectl get nodes` lists them\n")
    assert {each.method for each in server.requests} == {"GET"}


async def test_a_node_that_is_named_twice_is_enabled_once(server: FakeApiServer, run: Run) -> None:
    node(server)
    mignode(server)
    assert (await run("enable", "gpu-1", "gpu-1"))[0] == 0
    assert len(server.asked("patch")) == 1


async def test_a_card_without_mig_is_an_error_and_a_hint_and_gets_no_label(server: FakeApiServer, run: Run) -> None:
    node(server)
    mignode(server, mode="Unsupported", mig=False)
    status, out, err = await run("enable", "gpu-1")
    assert (status, out) == (1, "")
    error, hint = err.splitlines()
    assert error == "error: no GPU of node gpu-1 can be cut into MIG slices"
    assert hint.startswith("hint: ")
    assert LABEL not in metadata(server)["labels"]


async def test_what_is_not_done_in_time_is_told_with_where_it_stands(server: FakeApiServer, run: Run) -> None:
    node(server)
    mignode(server, mode="EnablePending")
    status, out, err = await run("enable", "gpu-1", "--timeout", "1")
    assert (status, out) == (1, "gpu-1: MIG mode is on on 0 of 1 GPUs\n")
    error, hint = err.splitlines()
    assert error == "error: node gpu-1 is not done after 1 s: MIG mode is on on 0 of 1 GPUs"
    assert hint.startswith("hint: it becomes ready by itself")


@pytest.mark.parametrize("verb", ["get", "patch"])
async def test_what_is_not_allowed_is_an_error_with_the_right_to_look_for(
    verb: str, server: FakeApiServer, run: Run
) -> None:
    node(server)
    mignode(server)
    server.script(verb, faults.answer(403, "Forbidden", 'nodes "gpu-1" is forbidden'))
    status, out, err = await run("enable", "gpu-1")
    assert (status, out) == (1, "")
    error, hint = err.splitlines()
    assert error == f'error: could not {verb} Node gpu-1: nodes "gpu-1" is forbidden'
    assert f"`kubectl auth can-i {verb} nodes`" in hint


def test_reset_and_manual_exclude_each_other() -> None:
    answer = CliRunner().invoke(app, ["enable", "gpu-1", "--reset", "--manual"])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "--reset and --manual exclude each other" in answer.stderr


@pytest.mark.parametrize("verb", ["enable", "disable"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "Missing argument 'NODE...'"), (["gpu-1", "--timeout", "0"], "greater than or equal to 1")],
)
def test_wrong_usage_is_exit_code_2(verb: str, arguments: list[str], said: str) -> None:
    answer = CliRunner().invoke(app, [verb, *arguments])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert said in answer.stderr


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_a_wrong_kubeconfig_is_named(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, verb, "gpu-1", "--kubeconfig", tmp_path / "missing") == 1
    error, hint = one_error_and_hint(capsys)
    assert str(tmp_path / "missing") in error
    assert "--kubeconfig" in hint


@pytest.mark.parametrize("verb", ["enable", "disable"])
def test_a_cluster_that_does_not_answer_is_an_error_and_a_hint(
    verb: str, unreachable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, verb, "gpu-1", "--kubeconfig", unreachable) == 1
    error, hint = one_error_and_hint(capsys)
    assert error.startswith("error: could not get Node gpu-1")
    assert hint.startswith("hint: is the API server up")
