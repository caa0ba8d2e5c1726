"""The `cdmo` command as people and scripts meet it: what goes where, and the exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cdmo.api.schema import yaml_text
from cdmo.cli.app import app, main
from cdmo.version import __version__

VERBS = (
    "status",
    "doctor",
    "enable",
    "disable",
    "plan",
    "discover",
    "simulate",
    "settle",
    "crd",
    "controller",
    "agent",
    "gpu-operator",
)
COMMAND = Path(sys.executable).with_name("cdmo")


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed console script, with nothing of this process' environment that it would heed."""
    heeded = ("KUBECONFIG", "HOST_ROOT", "NODE_NAME", "CDMO_LOG_LEVEL", "POD_NAMESPACE")
    environment = {name: value for name, value in os.environ.items() if name not in heeded}
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, timeout=15, check=False, env=environment
    )


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """`main` inside this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["cdmo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def unreachable(tmp_path: Path) -> Path:
    """A kubeconfig of an API server that is not there: port 1 of the loopback is nobody's."""
    path = tmp_path / "kubeconfig"
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: c, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: c}}]\n"
    )
    return path


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root of a host without a driver."""
    root = tmp_path / "host"
    boot_id = root / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("a-boot\n")
    return root


def one_error_and_hint(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What was said on stderr, when it is one error and one hint and stdout is empty."""
    said = capsys.readouterr()
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error, hint


def test_help_lists_every_verb() -> None:
    answer = CliRunner().invoke(app, ["--help"])
    assert answer.exit_code == 0
    commands = answer.output.split("Commands:")[1]
    assert tuple(line.split()[0] for line in commands.splitlines() if line.strip()) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    answer = CliRunner().invoke(app, [verb, "--help"])
    assert answer.exit_code == 0
    assert f"Usage: cdmo {verb}" in answer.output


def test_without_a_verb_the_help_is_shown() -> None:
    assert "Commands:" in CliRunner().invoke(app, []).output


def test_the_installed_script_tells_its_version() -> None:
    answer = run_script("--version")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"cdmo {__version__}\n", "")


def test_the_installed_script_fails_with_an_error_and_a_hint(unreachable: Path) -> None:
    answer = run_script("status", "--kubeconfig", str(unreachable))
    assert (answer.returncode, answer.stdout) == (1, "")
    error, hint = answer.stderr.splitlines()
    assert error.startswith("error: could not list mignodes")
    assert hint.startswith("hint: is the API server up")


def test_the_module_is_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "cdmo", "--version"], capture_output=True, text=True, timeout=15, check=False
    )
    assert answer.stdout == f"cdmo {__version__}\n"


def test_crd_prints_the_generated_file() -> None:
    answer = CliRunner().invoke(app, ["crd"])
    committed = Path(__file__).parents[2] / "deploy/crds/mignodes.yaml"
    assert answer.stdout == committed.read_text() == yaml_text()


def test_wrong_usage_is_exit_code_2_and_says_so_on_stderr() -> None:
    answer = CliRunner().invoke(app, ["status", "--output", "xml"])
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert "'xml' is not one of" in answer.stderr


@pytest.mark.parametrize("verb", ["status", "controller"])
def test_a_missing_kubeconfig_is_named(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, verb, "--kubeconfig", tmp_path / "missing") == 1
    error, hint = one_error_and_hint(capsys)
    assert str(tmp_path / "missing") in error
    assert "--kubeconfig" in hint


def test_an_agent_under_a_root_that_is_none_says_so_before_it_asks_for_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("agent", "--node", "gpu-1", "--root", tmp_path, "--kubeconfig", tmp_path / "missing")
    assert call(monkeypatch, *arguments) == 1
    error, hint = one_error_and_hint(capsys)
    assert error.startswith(f"error: the boot id cannot be read from {tmp_path}/proc")
    assert hint == f"hint: mount the host's root file system at {tmp_path}"


def test_an_agent_is_told_that_its_kubelets_folder_must_be_absolute(
    host: Path, unreachable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("agent", "--node", "gpu-1", "--root", host, "--kubelet-root", "kubelet", "--kubeconfig", unreachable)
    assert call(monkeypatch, *arguments) == 1
    assert one_error_and_hint(capsys)[0].endswith("'kubelet' is not an absolute path")


def test_an_agent_without_a_node_name_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    answer = CliRunner().invoke(app, ["agent"])
    assert answer.exit_code == 2
    assert "NODE_NAME" in answer.stderr


def test_an_unknown_log_level_is_told(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "agent", "--node", "gpu-1", "--root", host, "--log-level", "loud") == 1
    assert one_error_and_hint(capsys)[0] == "error: there is no log level 'loud'"


def test_discover_without_a_driver_says_where_it_looked(
    host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "discover", "--root", host) == 1
    error, hint = one_error_and_hint(capsys)
    assert error == f"error: no usable libnvidia-ml.so.1 in 16 folders under {host}/run/nvidia/driver, {host}"
    assert "install the NVIDIA driver" in hint
