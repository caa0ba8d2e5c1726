"""`cdmo simulate` as people and scripts meet it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cdmo.cli.app import main
from cdmo.cli.simulate import QUIET_SECONDS, Progress
from tests.builders import h100
from tests.kube.files import gpu_node, mignode, waiting

ONE_NODE = ("--nodes", "1", "--gpus-per-node", "1")
HEADER = "pod,arrival,duration,resources,priority\n"
THREE = HEADER + (
    "a,0,10,nvidia.com/mig-7g.80gb=1,0\nb,1,5,nvidia.com/mig-7g.80gb=1,0\nc,2,1,nvidia.com/mig-7g.80gb=1,0\n"
)
KEYS = {
    "pods",
    "accepted",
    "acceptedShare",
    "slotShare",
    "createsPerAccepted",
    "destroysPerAccepted",
    "meanWait",
    "p95Wait",
    "utilisation",
    "wallSeconds",
}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """`cdmo simulate` inside this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["cdmo", "simulate", *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "three.csv"
    path.write_text(THREE)
    return path


def answered(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    captured = capsys.readouterr()
    assert captured.err == ""
    answer = json.loads(captured.out)
    assert isinstance(answer, dict)
    return answer


def test_a_trace_is_simulated_and_its_figures_are_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    assert call(monkeypatch, "--trace", trace, *ONE_NODE, "--warmup", "0", "-o", "json") == 0
    answer = answered(capsys)
    assert answer.keys() >= KEYS
    assert (answer["pods"], answer["accepted"], answer["acceptedShare"], answer["slotShare"]) == (3, 3, 1.0, 1.0)
    assert (answer["meanWait"], answer["p95Wait"]) == (pytest.approx((0 + 9 + 13) / 3), 13.0)
    assert answer["createsPerAccepted"] == pytest.approx(1 / 3)
    assert answer["destroysPerAccepted"] == 0.0
    assert answer["utilisation"] == 1.0
    assert answer["wallSeconds"] >= 0.0
    assert answer["perProfile"][0]["profile"] == "7g.80gb"


def test_with_loss_those_without_a_place_are_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    assert call(monkeypatch, "--trace", trace, *ONE_NODE, "--warmup", "0", "--loss", "-o", "json") == 0
    answer = answered(capsys)
    assert (answer["accepted"], answer["meanWait"]) == (1, 0.0)
    assert [(each["code"], each["pods"]) for each in answer["neverStarted"]] == [("NoRoom", 2)]


def test_the_table_names_workload_cluster_figures_and_profiles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    assert call(monkeypatch, "--trace", trace, *ONE_NODE, "--warmup", "0") == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "trace three.csv"
    assert lines[1] == "3 arrivals, the last 3 counted; a pod without a place waits"
    assert lines[2] == "1 GPUs on 1 nodes, 8 memory slots"
    assert "pods accepted       3 of 3, 100.0%" in lines
    assert "wait, mean          7.33 (the trace's unit)" in lines
    assert "7g.80gb            3     3 (100.0%)  7.33       13" in lines
    assert max(map(len, lines)) <= 80


def test_the_cluster_may_come_from_objects_whose_pods_keep_their_slices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    cluster = trace.with_name("cluster.json")
    held = mignode("gpu-1", h100(slices={"1g.10gb@0": "ml/server"}), h100())
    cluster.write_text(json.dumps({"kind": "List", "items": [gpu_node(), held, waiting("not-simulated")]}))
    assert call(monkeypatch, "--trace", trace, "-f", cluster, "--warmup", "0", "-o", "json") == 0
    captured = capsys.readouterr()
    assert captured.err == "note: 1 pods that wait in the files are not simulated\n"
    answer = json.loads(captured.out)
    assert (answer["nodes"], answer["gpus"], answer["slots"], answer["accepted"]) == (1, 2, 16, 3)
    assert answer["meanWait"] == pytest.approx((0 + 9 + 13) / 3)  # the other GPU never gets free
    assert answer["utilisation"] == pytest.approx(9 / 16)


def test_of_a_cluster_that_cannot_be_read_the_reasons_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    assert call(monkeypatch, "--trace", trace, "-f", trace.with_name("gone.json")) == 1
    captured = capsys.readouterr()
    assert "gone.json" in captured.err.splitlines()[0]
    assert "error: no GPU of this cluster can be cut" in captured.err


def test_a_mix_runs_the_same_for_the_same_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--mix", "classic", "--arrivals", "60", "--product", "NVIDIA A30", "--nodes", "2", "-o", "json")
    answers = []
    for seed in ("3", "3", "4"):
        assert call(monkeypatch, *asked, "--seed", seed) == 0
        answer = answered(capsys)
        del answer["wallSeconds"], answer["workload"]
        answers.append(answer)
    assert answers[0] == answers[1] != answers[2]
    assert (answers[0]["arrivals"], answers[0]["pods"], answers[0]["gpus"], answers[0]["slots"]) == (60, 48, 16, 64)


def test_bad_lines_are_told_the_rest_is_simulated_and_the_exit_status_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    trace.write_text(THREE + "d,soon,1,nvidia.com/mig-7g.80gb=1,0\n" + "e,1,-2,nvidia.com/mig-7g.80gb=1,0\n")
    assert call(monkeypatch, "--trace", trace, *ONE_NODE, "--warmup", "0", "-o", "json") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"error: {trace}, line 5: arrival: 'soon' is not a number",
        f"error: {trace}, line 6: duration: '-2' is not between 0 and 1000000000000",
        "hint: what these name is left out, the rest is simulated",
    ]
    answer = json.loads(captured.out)
    assert (answer["pods"], answer["leftOut"]) == (3, 2)


def test_of_very_many_bad_lines_the_first_are_told_and_the_rest_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path
) -> None:
    trace.write_text(THREE + "x\n" * 30)
    assert call(monkeypatch, "--trace", trace, *ONE_NODE) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[20] == "error: and 10 more like these"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (ONE_NODE, "no workload was given"),
        (("--mix", "uniform", "--trace", "x.csv", *ONE_NODE), "--trace and --mix were both given"),
        (("--trace", "x.csv", "--load", "1", *ONE_NODE), "--load does not go with the other options"),
        (("--trace", "x.csv", "--seed", "1", *ONE_NODE), "--seed does not go with the other options"),
        (("--trace", "x.csv", *ONE_NODE), "x.csv cannot be read"),
        (("--mix", "uniform"), "no cluster was given"),
        (("--mix", "uniform", "-f", "x.json", "--nodes", "1"), "--nodes does not go with the other options"),
        (("--mix", "even", *ONE_NODE), "there is no mix 'even'"),
        (("--mix", "uniform", "--load", "0", *ONE_NODE), "a load of 0 cannot be offered"),
        (("--mix", "uniform", "--load", "-2", *ONE_NODE), "a load of -2 cannot be offered"),
        (("--mix", "uniform", "--load", "nan", *ONE_NODE), "a load of nan cannot be offered"),
        (("--mix", "uniform", "--arrivals", "0", *ONE_NODE), "0 arrivals cannot be simulated"),
        (("--mix", "uniform", "--nodes", "0"), "0 nodes cannot be simulated"),
        (("--mix", "uniform", "--nodes", "1", "--gpus-per-node", "0"), "0 GPUs per node cannot be simulated"),
        (("--mix", "uniform", "--nodes", "1", "--product", "NVIDIA H100"), "no MIG table is known"),
        (("--mix", "uniform", "--warmup", "1", *ONE_NODE), "--warmup 1 is not a share"),
        (("--mix", "uniform", "--warmup", "-0.1", *ONE_NODE), "--warmup -0.1 is not a share"),
        (("--mix", "uniform", "--warmup", "nan", *ONE_NODE), "--warmup nan is not a share"),
        (("--mix", "uniform", "--reserve-after", "-1", *ONE_NODE), "--reserve-after -1 is below 0"),
        (("--mix", "uniform", "--plot", "x.gif", *ONE_NODE), "x.gif has no suffix that can be drawn"),
        (("--mix", "uniform", "--plot", "nowhere/x.svg", *ONE_NODE), "lies in nowhere, which is no folder"),
    ],
)
def test_bad_options_get_an_error_and_a_hint_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert call(monkeypatch, *arguments) == 1
    captured = capsys.readouterr()
    error, hint = captured.err.splitlines()
    assert error.startswith("error: ")
    assert sentence in error
    assert hint.startswith("hint: ")
    assert captured.out == ""


@pytest.mark.parametrize("text", ["", "pod,arrival\n", HEADER])
def test_a_trace_without_pods_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path, text: str
) -> None:
    trace.write_text(text)
    assert call(monkeypatch, "--trace", trace, *ONE_NODE) == 1
    assert "hint: " in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_plot_is_written_and_the_same_run_makes_the_same_file(
    monkeypatch: pytest.MonkeyPatch, trace: Path, suffix: str
) -> None:
    paths = [trace.with_name(f"{name}{suffix}") for name in ("one", "two")]
    for path in paths:
        assert call(monkeypatch, "--trace", trace, *ONE_NODE, "--warmup", "0", "--plot", path) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_progress_is_shown_on_a_terminal_once_a_run_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = Clock()
    progress = Progress(100, clock)
    progress.at(10)
    assert capsys.readouterr().err == ""
    clock.seconds = QUIET_SECONDS
    progress.at(20)
    progress.at(21)  # at once after the last: not shown again
    progress.over()
    assert capsys.readouterr().err == "\rsimulated 20 of 100 pods\r\033[K"


def test_nothing_is_shown_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(100, clock)
    clock.seconds = 10 * QUIET_SECONDS
    progress.at(50)
    progress.over()
    assert capsys.readouterr().err == ""
