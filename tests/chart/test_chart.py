"""The chart as a whole: what Helm's own linter says, its versions, its notes, and the files it has from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from cdmo.version import __version__
from tests.chart.helm import CHART, REPOSITORY, VARIABLE, Helm, HelmMissing, find_helm
from tests.chart.rendering import Chart
from tools.generate_chart import made


@pytest.mark.timeout(320)  # the first test that asks for helm may have to fetch it
def test_helm_is_new_enough(helm: Helm) -> None:
    major, minor = helm.run("version", "--template", "{{ .Version }}").output.removeprefix("v").split(".")[:2]
    assert (int(major), int(minor)) >= (3, 17)


def test_helms_linter_finds_nothing(helm: Helm) -> None:
    answer = helm.run("lint", "--strict", "--namespace", "cdmo", str(CHART))
    assert answer.status == 0, answer.output
    assert "WARNING" not in answer.output and "ERROR" not in answer.output


def test_the_chart_and_the_program_are_of_one_version() -> None:
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert described["version"] == described["appVersion"] == __version__


def test_what_the_chart_has_from_elsewhere_is_up_to_date() -> None:
    assert [path for path, text in made().items() if path.read_text() != text] == []


def test_a_packaged_chart_has_all_that_it_needs_and_nothing_else(helm: Helm, tmp_path: Path) -> None:
    answer = helm.run("package", str(CHART), "--destination", str(tmp_path))
    assert answer.status == 0, answer.errors
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        packed = {Path(name).relative_to(CHART.name) for name in archive.getnames()}
    ignored = {Path(".helmignore")}
    there = {path.relative_to(CHART) for path in CHART.rglob("*") if path.is_file()}
    assert packed | ignored == there | ignored
    rendered = helm.run("template", "cdmo", str(package), "--namespace", "cdmo")
    assert rendered.output == helm.run("template", "cdmo", str(CHART), "--namespace", "cdmo").output


def test_the_notes_say_what_to_do_next_and_what_uninstalling_leaves(chart: Chart) -> None:
    notes = chart.notes({})
    steps = ["nvidia-smi -mig 1", "kubectl label nodes NODE_NAME", "cdmo doctor", "helm uninstall -n cdmo cdmo"]
    places = [notes.find(step) for step in steps]
    assert -1 not in places and places == sorted(places)
    assert "kubectl delete crd mignodes.cdmo.clear.ml" in notes
    assert "All MigNodes go" not in notes


def test_the_notes_do_not_promise_a_crd_that_goes(chart: Chart) -> None:
    notes = chart.notes({"crds": {"keep": False}})
    assert "kubectl delete crd" not in notes
    assert "The CRD and all MigNodes go." in notes


def test_the_notes_warn_when_the_controller_may_run_beside_users_jobs(chart: Chart) -> None:
    warning = "root on such a node can take its token"
    assert warning in chart.notes({"controller": {"keepOffGpuNodes": False}})
    assert warning not in chart.notes({})


def test_a_helm_that_is_named_is_the_one_that_is_run() -> None:
    assert find_helm({VARIABLE: "/opt/helm"}) == Path("/opt/helm")


def test_where_no_package_can_be_had_the_failure_says_what_to_do(tmp_path: Path) -> None:
    environment = {"CDMO_CACHE": str(tmp_path), "PATH": "", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
    with pytest.raises(HelmMissing) as failure:
        find_helm(environment)
    assert VARIABLE in failure.value.hint


def test_the_command_of_the_makefile_passes_on_how_helm_ended() -> None:
    command = [sys.executable, "-m", "tests.chart.helm", "lint", str(CHART / "nowhere")]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert "nowhere" in answer.stdout + answer.stderr
