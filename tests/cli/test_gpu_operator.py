"""`cdmo gpu-operator values`: the file, and nothing else, on stdout."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cdmo.cli.app import app
from cdmo.gpu_operator.files import files
from tests.cli.test_app import call, one_error_and_hint


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ("", "on.yaml"),
        ("--off", "off.yaml"),
        ("--k3s", "on-k3s.yaml"),
        ("--off --microk8s", "off-microk8s.yaml"),
        ("--chart-version 25.3", "up-to-25.3/on.yaml"),
        ("--off --k3s --chart-version 25.3", "up-to-25.3/off-k3s.yaml"),
    ],
)
def test_the_command_prints_the_file(options: str, file: str) -> None:
    answer = CliRunner().invoke(app, ["gpu-operator", "values", *options.split()])
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, files()[file], "")


def test_a_note_on_the_chart_does_not_get_into_the_file() -> None:
    answer = CliRunner().invoke(app, ["gpu-operator", "values", "--chart-version", "24.3"])
    assert answer.exit_code == 0
    assert "note:" not in answer.stdout
    assert answer.stderr.startswith("note: charts before 24.6")


def test_two_distributions_at_once_are_wrong_usage() -> None:
    answer = CliRunner().invoke(app, ["gpu-operator", "values", "--k3s", "--microk8s"])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "exclude each other" in answer.stderr


@pytest.mark.parametrize("version", ["latest", ""])
def test_an_unknown_form_of_version_is_refused(
    version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "gpu-operator", "values", "--chart-version", version) == 1
    error, hint = one_error_and_hint(capsys)
    assert error == f"error: {version!r} is no version of the gpu-operator's chart"
    assert "25.10" in hint
