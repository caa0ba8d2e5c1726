"""`cdmo doctor`: words in 80 columns, JSON, and the exit status."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdmo.cli.doctor import as_json, lines
from cdmo.doctor import CHECKS, Finding, Status, diagnose
from tests.cli.test_app import COMMAND, call, one_error_and_hint, unreachable
from tests.doctor.faults import FAULTS, Fault, environment
from tests.doctor.living import LivingCluster
from tests.doctor.recorded import PLUGIN, Recorded, recorded
from tests.kube.objects import kubeconfig

__all__ = ["unreachable"]


async def run(cluster: Recorded, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """The installed command against a living cluster."""
    cluster.beat(datetime.now(UTC).isoformat())  # the command goes by the machine's clock
    async with LivingCluster(cluster) as server:
        path = kubeconfig(folder, server.url)
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "doctor",
            "--kubeconfig",
            str(path),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PATH": str(Path(sys.executable).parent)},
        )
        async with asyncio.timeout(15):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


async def test_an_error_is_told_with_its_fix_and_the_status_is_1(tmp_path: Path) -> None:
    cluster = recorded()
    environment(PLUGIN, DEVICE_ID_STRATEGY="index")(cluster)
    status, out, err = await run(cluster, tmp_path)
    assert (status, err) == (1, "")
    said = " ".join(out.split())
    assert (
        "error device-ids DaemonSet/gpu-operator/nvidia-device-plugin-daemonset: DEVICE_ID_STRATEGY is index" in said
    )
    assert "fix: set DEVICE_ID_STRATEGY to uuid in devicePlugin.env" in said
    assert (await run(cluster, tmp_path, "--exit-zero"))[:2] == (0, out)
    assert f"\n1 error, 0 warnings, {len(CHECKS) - 1} checks without.\n" in out


async def test_warnings_alone_are_status_0_and_json_has_them(tmp_path: Path) -> None:
    cluster = recorded()
    cluster.image(PLUGIN, "x/k8s-device-plugin:v0.19.3")
    status, out, err = await run(cluster, tmp_path, "-o", "json")
    assert (status, err) == (0, "")
    findings = json.loads(out)
    assert [each["check"] for each in findings if each["status"] == "warning"] == ["plugin-version"]
    assert findings[0].keys() == {"check", "status", "object", "sentence", "fix"}


def test_a_cluster_that_does_not_answer_is_an_error_and_a_hint(
    unreachable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "doctor", "--kubeconfig", unreachable) == 1
    assert "could not get the version of the API server" in one_error_and_hint(capsys)[0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name)
def test_every_answer_fits_80_columns(fault: Fault) -> None:
    cluster = recorded()
    fault.plant(cluster)
    printed = list(lines(diagnose(cluster.facts())))
    # A command to copy is not broken within a word.
    assert [line for line in printed if len(line) > 80 and " " in line.strip()] == []


def test_names_from_the_cluster_cannot_move_a_terminals_cursor() -> None:
    finding = Finding("c", Status.ERROR, "Node/\x1b[2J", "is\nodd", "mend\x07 it")
    assert all(line.isprintable() for line in lines([finding]))
    assert as_json([finding])[0]["object"] == "Node/?[2J"


def test_a_fault_of_every_node_does_not_drown_the_others() -> None:
    many = [Finding("driver", Status.ERROR, f"Node/n{number}", "is old", "renew it") for number in range(5000)]
    printed = list(lines([*many, Finding("label", Status.OK, "cluster", "fine")]))
    assert len(printed) == 2 * 10 + 4
    assert printed[20] == "         and 4990 more of driver: `-o json` has them all"
    assert printed[-1] == "5000 errors, 0 warnings, 1 check without."
