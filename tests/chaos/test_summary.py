"""The answer of a chaos run."""

from __future__ import annotations

import json

import pytest
from cdmo_harness.chaos.kinds import KINDS
from cdmo_harness.chaos.summary import FaultRow, Found, MemoryRow, Summary, as_json, as_text

GAVE_UP = "error: could not get the version of the API server: " + "word " * 30


def summary(*violations: Found) -> Summary:
    return Summary(
        seed=7,
        minutes=5.0,
        seconds=412.3,
        ok=not violations,
        faults=tuple(FaultRow(kind.name, 120, 12345.6, 3) for kind in KINDS),
        blows={"withheld bookmark": 123_456},
        pods={"Submitted": 10_000, "Succeeded": 9_900, "Deleted": 100},
        lost_with_a_fault={"plugin registers too early": 12},
        filled=39,
        repartitions={"gpu-1": 700, "gpu-2": 800},
        instances_created=4000,
        instances_destroyed=3900,
        interrupted_changes=80,
        kubelets_restarted=3,
        memory=(
            MemoryRow("agent-gpu-1", 78.1, 79.2, 80.0, {"1": 12, "-6": 1}, {GAVE_UP: 12, "Fatal Python error": 1}),
            MemoryRow("agent-gpu-2", 78.1, 79.2, 80.0, {}, {}),
        ),
        violations=violations,
    )


LONG = Found("pod failed by admission", "default/pod-1 on gpu-1: " + "word " * 60 + "x" * 200)


@pytest.mark.parametrize("found", [(), (LONG,), (LONG,) * 30], ids=["none", "one", "many"])
def test_no_line_is_wider_than_80_columns(found: tuple[Found, ...]) -> None:
    assert max(map(len, as_text(summary(*found)).splitlines())) <= 80


def test_the_table_shows_every_kind_of_fault_with_its_count() -> None:
    lines = as_text(summary()).splitlines()
    for kind in KINDS:
        row = next(line for line in lines if line.startswith(f"{kind.name}  "))
        assert row.split()[-3:] == ["120", "12346", "3"]


def test_the_last_line_is_the_verdict() -> None:
    assert as_text(summary()).rstrip().splitlines()[-1] == "0 violations"
    assert as_text(summary(LONG)).rstrip().splitlines()[-1] == "1 violation"
    many = as_text(summary(*(LONG,) * 30)).rstrip().splitlines()
    assert many[-1] == "30 violations"
    assert "and 10 more" in many


def test_repartitions_are_those_of_all_nodes() -> None:
    (row,) = [line for line in as_text(summary()).splitlines() if line.startswith("repartitions")]
    assert row.split() == ["repartitions", "1500"]


def test_the_last_words_of_a_process_that_ended_by_itself_are_told() -> None:
    lines = as_text(summary()).splitlines()
    told = lines[lines.index("LAST WORDS OF THOSE") :]
    assert told[1].startswith("agent-gpu-1, 12 times: error: could not get the version")
    assert "agent-gpu-1, once: Fatal Python error" in told
    assert not any(line.startswith("agent-gpu-2") for line in told)


def test_json_has_everything() -> None:
    answer = json.loads(as_json(summary(LONG)))
    assert answer["ok"] is False
    assert answer["lostWithAFault"] == {"plugin registers too early": 12}
    assert answer["memory"][0]["endedByItself"] == {"1": 12, "-6": 1}
    assert answer["violations"] == [{"what": LONG.what, "details": LONG.details}]
