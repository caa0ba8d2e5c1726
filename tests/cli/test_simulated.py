"""What a simulation prints where there is little or much to say."""

from __future__ import annotations

import pytest

from cdmo.cli._simulated import Shown, as_json, print_figures
from cdmo.simulation.figures import figures
from cdmo.simulation.workload import Job
from tests.builders import h100, node
from tests.simulation.stage import job, played, workload, world_of

NODES = [node("gpu-1", [h100(slices={"1g.10gb@0": "ml/server"})])]


def shown(*jobs: Job, loss: bool = False) -> Shown:
    made = figures(played(jobs, NODES, loss=loss), world_of(NODES, workload(jobs)).size)
    return Shown(made, "trace t.csv", 1, 1, 8, "seconds", loss, 0.5)


def test_where_nothing_started_figures_are_null_and_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = shown(job("a", "9g.90gb", at=0, runs=1))
    answer = as_json(nothing, problems=0)
    unknown = ("createsPerAccepted", "destroysPerAccepted", "meanWait", "p95Wait", "utilisation", "fragmentation")
    assert [answer[key] for key in unknown] == [None] * 6
    assert answer["neverStarted"][0]["code"] == "NoSuchProfile"
    print_figures(nothing)
    lines = capsys.readouterr().out.splitlines()
    assert "wait, mean          -" in (line.rstrip() for line in lines)
    assert any(line.startswith("NoSuchProfile  1     sim/a: ") for line in lines)


def test_pods_that_wait_for_good_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    stuck = shown(job("a", "7g.80gb", at=0, runs=1), job("b", "1g.10gb", at=1, runs=1))
    assert as_json(stuck, problems=0)["stillWaiting"] == 1
    print_figures(stuck)
    assert "waiting for good    1 pods" in (line.rstrip() for line in capsys.readouterr().out.splitlines())


def test_of_many_kinds_of_pods_the_table_shows_the_most_frequent(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb")
    pairs = [{one: 1, other: count} for one in names for other in names if one < other for count in (1, 2, 3, 4)]
    many = shown(*(job(f"p{index}", asks, at=index, runs=1) for index, asks in enumerate(pairs)), loss=True)
    assert len(as_json(many, problems=0)["perProfile"]) == 24
    print_figures(many)
    assert "and 4 more kinds of pods, all in --output json" in capsys.readouterr().out
