"""When an environment is made, and when it is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.make_environment import INGREDIENTS, SetupFailed, fingerprint, make_environment


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with every ingredient of an environment."""
    for name in INGREDIENTS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    return tmp_path


def stamp(repository: Path) -> Path:
    """The file that says what the environment was made from."""
    return repository / ".venv" / "cdmo-fingerprint"


def put_python(repository: Path, *, exit_status: int) -> Path:
    """An environment whose Python notes its arguments; returns the note."""
    folder = repository / ".venv" / "bin"
    folder.mkdir(parents=True)
    note = repository / "arguments"
    python = folder / "python"
    python.write_text(f"#!/bin/sh\necho \"$@\" >> '{note}'\nexit {exit_status}\n")
    python.chmod(0o755)
    return note


@pytest.mark.parametrize("changed", INGREDIENTS)
def test_every_ingredient_changes_the_fingerprint(repository: Path, changed: str) -> None:
    before = fingerprint(repository)
    (repository / changed).write_text("other content\n")
    assert fingerprint(repository) != before


def test_an_environment_that_is_up_to_date_is_left_alone(repository: Path) -> None:
    note = put_python(repository, exit_status=1)
    stamp(repository).write_text(fingerprint(repository))
    assert make_environment(repository) is False
    assert not note.exists()


def test_changed_pins_are_installed_with_their_hashes_and_stamped(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    note = put_python(repository, exit_status=0)
    stamp(repository).write_text("an older fingerprint\n")
    assert make_environment(repository) is True
    pins, projects = note.read_text().splitlines()
    assert "--require-hashes -r requirements/development.txt" in pins
    assert projects.endswith("--no-deps --no-build-isolation --editable . --editable harness")
    assert stamp(repository).read_text() == fingerprint(repository)
    assert capfd.readouterr().out == ""


def test_a_failed_installation_is_not_stamped_and_says_what_to_do(repository: Path) -> None:
    put_python(repository, exit_status=3)
    with pytest.raises(SetupFailed, match="ended with status 3") as failure:
        make_environment(repository)
    assert "registry has to be reachable" in failure.value.hint
    assert not stamp(repository).exists()


def test_the_tool_needs_nothing_but_the_standard_library() -> None:
    tool = Path(make_environment.__code__.co_filename)
    code = f"import runpy; runpy.run_path({str(tool)!r}, run_name='imported')"
    answer = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
