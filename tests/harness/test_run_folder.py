"""One owner for each folder of a run; what a killed owner left can be removed, nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cdmo_harness.errors import HarnessError
from cdmo_harness.processes import ManagedProcess
from cdmo_harness.run_folder import RunFolder, cleanup_leftovers


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty temporary folder with a path short enough for unix sockets."""
    parent = tmp_path_factory.mktemp("t")
    monkeypatch.setattr("tempfile.tempdir", str(parent))
    return parent


_KILLED_OWNER = """
import os, signal, sys
from pathlib import Path
from cdmo_harness.run_folder import RunFolder
RunFolder(Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_killed_run(path: Path) -> Path:
    owner = subprocess.run([sys.executable, "-c", _KILLED_OWNER, str(path)], timeout=10)
    assert owner.returncode == -signal.SIGKILL
    return path


def test_a_run_folder_is_private_and_is_removed_when_closed(folder: Path) -> None:
    run = RunFolder.temporary()
    assert run.path.parent == folder
    assert run.path.stat().st_mode & 0o777 == 0o700
    (run.path / "data").write_text("x")

    run.close(keep=False)

    assert not run.path.exists()


def test_a_kept_folder_is_nobodys_leftover(folder: Path) -> None:
    run = RunFolder.temporary()
    (run.path / "log").write_text("worth a look")
    run.close(keep=True)

    assert cleanup_leftovers() == []
    assert (run.path / "log").read_text() == "worth a look"


def test_a_folder_has_one_owner_at_a_time(folder: Path) -> None:
    run = RunFolder(folder / "cdmo-mine")

    with pytest.raises(HarnessError, match="belongs to another run"):
        RunFolder(folder / "cdmo-mine")
    run.close(keep=False)
    RunFolder(folder / "cdmo-mine").close(keep=False)


def test_a_path_too_long_for_unix_sockets_is_refused_before_anything_starts(folder: Path) -> None:
    with pytest.raises(HarnessError, match="longer path than unix sockets"):
        RunFolder(folder / ("cdmo-" + "x" * 100))
    assert list(folder.iterdir()) == []


def test_what_a_killed_run_left_is_ended_and_removed(folder: Path) -> None:
    left = left_by_a_killed_run(folder / "cdmo-left")
    process = ManagedProcess("leftover", ["sleep", "600"], folder=left, environment=dict(os.environ))
    try:
        assert cleanup_leftovers() == [left]
        assert not process.running
        assert not left.exists()
    finally:
        process.stop(grace=0)


def test_a_run_that_goes_on_is_left_alone(folder: Path) -> None:
    run = RunFolder.temporary()

    assert cleanup_leftovers() == []
    assert run.path.is_dir()
    run.close(keep=False)


def test_folders_that_no_run_made_are_left_alone(folder: Path) -> None:
    unlocked = folder / "cdmo-by-somebody"
    unlocked.mkdir()
    elsewhere = left_by_a_killed_run(folder / "elsewhere")
    link = folder / "cdmo-link"
    link.symlink_to(elsewhere)

    assert cleanup_leftovers() == []
    assert unlocked.is_dir()
    assert link.is_symlink()
    assert elsewhere.is_dir()
