"""A short run of every target, what broke one once, and whether the fuzzing itself would notice anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutate import Mutator
from tests.fuzz.run import LIMIT_SECONDS, Finding, attempt, fuzz, limited
from tests.fuzz.target import Run, Target
from tests.fuzz.targets import TARGETS
from tests.fuzz.workers import run_all, shares

INPUTS = 5_000  # of all targets together
SEED = 2026
BY_NAME = {each.name: each for each in TARGETS}
CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize(("target", "inputs"), shares(TARGETS, INPUTS), ids=lambda each: getattr(each, "name", each))
def test_nothing_breaks_it(target: Target, inputs: int, tmp_path: Path) -> None:
    tally = fuzz(target, inputs, SEED, tmp_path)
    assert tally.finding is None, f"{tally.finding.what}\nsaved as {tally.finding.save(Path('build/fuzz'))}"
    assert 0 < tally.accepted < tally.inputs, "inputs are neither all sound nor all broken"


@pytest.mark.parametrize("path", CORPUS, ids=lambda each: each.name)
def test_what_broke_it_once_does_not_any_more(path: Path, tmp_path: Path) -> None:
    target = BY_NAME[path.name.rpartition("-")[0]]
    with target.prepare(tmp_path) as run, limited(LIMIT_SECONDS) as restart:
        restart()
        answer = attempt(target.name, run, path.read_bytes())
    assert isinstance(answer, bool), answer.what


@pytest.mark.parametrize("target", TARGETS, ids=lambda each: each.name)
def test_a_target_takes_a_sound_input(target: Target, tmp_path: Path) -> None:
    taken = []
    with target.prepare(tmp_path) as run:
        for seed in target.seeds():
            taken.append(attempt(target.name, run, seed if isinstance(seed, bytes) else json.dumps(seed).encode()))
    assert not [each.what for each in taken if isinstance(each, Finding)]
    assert any(taken)


def broken(run: Run) -> Target:
    """A target with something wrong in it."""

    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        yield run

    return Target("broken", 1, lambda: [{"a": 1, "b": [1, 2, {"c": "text"}]}], prepare)


def test_a_crash_is_found_and_its_input_breaks_it_again(tmp_path: Path) -> None:
    def run(content: bytes) -> bool:
        return bool(json.loads(content))

    finding = fuzz(broken(run), 1000, SEED, tmp_path).finding
    assert finding is not None and "JSONDecodeError" in finding.what
    saved = finding.save(tmp_path / "made")
    assert saved.name.startswith("broken-")
    with pytest.raises(ValueError):
        run(saved.read_bytes())


def test_a_hang_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.LIMIT_SECONDS", 0.05)

    def run(content: bytes) -> bool:
        while b"text" not in content:
            pass
        return True

    finding = fuzz(broken(run), 1000, SEED, tmp_path).finding
    assert finding is not None and "Hang" in finding.what


def test_an_end_of_the_process_is_a_finding(tmp_path: Path) -> None:
    def run(content: bytes) -> bool:
        raise SystemExit(0)

    finding = fuzz(broken(run), 1, SEED, tmp_path).finding
    assert finding is not None and "SystemExit" in finding.what


def test_a_worker_that_dies_is_a_finding_and_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_all([broken(lambda content: True)], 10, SEED, tmp_path) == 1  # no worker knows this target
    out = capsys.readouterr().out
    assert "FOUND broken" in out
    assert "StopIteration" in out


def test_the_same_seed_gives_the_same_inputs() -> None:
    one, two = (Mutator([{"a": [1, "b"]}, b"bytes"], Random(3)) for _ in range(2))
    inputs = [one.next() for _ in range(300)]
    assert inputs == [two.next() for _ in range(300)]
    assert len(set(inputs)) > 200


def test_inputs_are_shared_out_and_none_is_forgotten() -> None:
    parts = shares(TARGETS, 100_000)
    assert 100_000 <= sum(inputs for _, inputs in parts) < 100_000 + len(TARGETS)
    assert min(inputs for _, inputs in shares(TARGETS, 5)) == 1
