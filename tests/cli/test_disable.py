"""`cdmo disable` as people and scripts meet it. What it does step by step: tests/handover/test_disable.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdmo.cli.disable import AFTERWARDS
from tests.cli.test_enable import ANNOTATION, LABEL, Run, metadata, mignode, node, run, server
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.fakes.api_store import Address
from tests.kube.objects import POD_PATH, container, pod_json

__all__ = ["run", "server"]

MIGNODE = Address.parse("apis/cdmo.clear.ml/v1alpha1/mignodes/gpu-1")


@pytest.fixture
def cut(server: FakeApiServer) -> FakeApiServer:
    """A cluster with a node that is CDMO's, its GPU cut, and an agent that does at once what the MigNode says."""
    node(server, labelled=True)
    mignode(server)

    def agent() -> None:
        found = server.store.objects[MIGNODE]
        if found["spec"]["mode"] == "Disabled" and found["status"]["gpus"][0]["migMode"] == "Enabled":
            mignode(server, mode="Disabled", spec="Disabled")
            node(server, labelled=True, whole=1)

    server.store.on_change.append(agent)
    return server


def run_pod(server: FakeApiServer, name: str = "train", owner: str = "") -> None:
    """A pod on the node, with a slice."""
    pod = pod_json(name, nodeName="gpu-1", containers=[container(mig_1g="1")], status={"phase": "Running"})
    if owner:
        pod["metadata"]["ownerReferences"] = [{"kind": owner, "name": owner, "uid": "u", "controller": True}]
    server.store.apply(f"{POD_PATH}/{name}", pod)


async def test_a_node_is_given_back_whole_and_what_is_left_to_do_is_said(cut: FakeApiServer, run: Run) -> None:
    status, out, err = await run("disable", "gpu-1")
    assert (status, err) == (0, "")
    assert (
        out
        == (
            "gpu-1: no pod gets its slices any more\n"
            "gpu-1: MIG mode is off on 1 of 1 GPUs\n"
            "gpu-1: offers 1 whole GPUs\n"
            "gpu-1: its GPUs are whole, and CDMO's label is off\n"
        )
        + AFTERWARDS
    )
    assert LABEL not in metadata(cut)["labels"]
    assert ANNOTATION not in metadata(cut)["annotations"]
    assert cut.store.objects[MIGNODE]["spec"]["mode"] == "Managed"


def test_what_is_left_to_do_are_the_pages_steps_4_and_5() -> None:
    page = (Path(__file__).parents[2] / "docs/leave.md").read_text()
    commands = [line.strip() for line in AFTERWARDS.splitlines() if line.startswith("  ")]
    assert len(commands) == 2
    assert all(f"\n{each}\n" in page for each in commands)


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(cut: FakeApiServer, run: Run) -> None:
    status, out, err = await run("disable", "gpu-1", "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "gpu-1: destroy 1 slices, switch MIG mode off on 1 GPUs",
        f"gpu-1: take the label {LABEL} off",
    ]
    assert {each.method for each in cut.requests} == {"GET"}


async def test_a_dry_run_with_drain_names_the_pods_and_lets_them_run(cut: FakeApiServer, run: Run) -> None:
    run_pod(cut)
    status, out, _ = await run("disable", "gpu-1", "--dry-run", "--drain")
    assert status == 0
    first = "gpu-1: pods to wait for or to evict: ml/train (1 nvidia.com/mig-1g.10gb)"
    assert out.splitlines()[0] == first
    assert {each.method for each in cut.requests} == {"GET"}


async def test_a_dry_run_of_a_node_that_was_given_back_has_nothing_to_do(server: FakeApiServer, run: Run) -> None:
    node(server, whole=1)
    mignode(server, mode="Disabled")
    status, out, err = await run("disable", "gpu-1", "--dry-run")
    assert (status, out, err) == (0, "gpu-1: nothing else, the label is not there\n", "")


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
async def test_while_pods_use_the_gpus_it_refuses_and_names_them(
    option: list[str], cut: FakeApiServer, run: Run
) -> None:
    run_pod(cut)
    status, out, err = await run("disable", "gpu-1", *option)
    assert (status, out) == (1, "")
    assert err == (
        "error: pods use the GPUs of node gpu-1: ml/train (1 nvidia.com/mig-1g.10gb)\n"
        "hint: end them, or wait for them with --wait, or have them evicted with --drain\n"
    )
    assert {each.method for each in cut.requests} == {"GET"}


async def test_a_daemonsets_pod_is_not_drained(cut: FakeApiServer, run: Run) -> None:
    run_pod(cut, owner="DaemonSet")
    status, out, err = await run("disable", "gpu-1", "--drain")
    assert (status, out) == (1, "")
    assert err.startswith("error: DaemonSets would make these pods on node gpu-1 anew: ml/train ")
    assert {each.method for each in cut.requests} == {"GET"}


async def test_a_node_that_is_missing_or_none_of_cdmos_stops_it_before_anything_is_done_to_the_others(
    cut: FakeApiServer, run: Run
) -> None:
    answer = await run("disable", "gpu-1", "nowhere")
    assert answer == (1, "", "error: there is no node nowhere\nhint: `kubectl get nodes` lists them\n")
    node(cut, "cpu-1")
    status, out, err = await run("disable", "gpu-1", "cpu-1")
    assert (status, out) == (1, "")
    assert err.startswith("error: node cpu-1 is none of CDMO's: it has no MigNode\nhint: `kubectl get mignodes`")
    assert {each.method for each in cut.requests} == {"GET"}


async def test_what_is_not_done_in_time_is_told_and_the_label_stays(server: FakeApiServer, run: Run) -> None:
    node(server, labelled=True)
    mignode(server, mode="DisablePending")
    status, out, err = await run("disable", "gpu-1", "--timeout", "1")
    assert status == 1
    assert out.splitlines()[-1] == "gpu-1: MIG mode is off on 0 of 1 GPUs"
    error, hint = err.splitlines()
    assert error == "error: node gpu-1 is not done after 1 s: MIG mode is off on 0 of 1 GPUs"
    assert hint.startswith("hint: its agent goes on trying; run the same command again")
    assert metadata(server)["labels"][LABEL] == "mig"


@pytest.mark.parametrize(
    ("verb", "what", "right"),
    [
        ("get", "get Node gpu-1", "get nodes"),
        ("list", "list pods", "list pods"),
        ("patch", "patch MigNode gpu-1", "patch mignodes"),
    ],
)
async def test_what_is_not_allowed_is_an_error_with_the_right_to_look_for(
    verb: str, what: str, right: str, cut: FakeApiServer, run: Run
) -> None:
    cut.script(verb, faults.answer(403, "Forbidden", "it is forbidden"))
    status, out, err = await run("disable", "gpu-1")
    assert (status, out) == (1, "")
    error, hint = err.splitlines()
    assert error == f"error: could not {what}: it is forbidden"
    assert f"`kubectl auth can-i {right}`" in hint
