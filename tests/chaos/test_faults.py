"""Faults that can be looked at without a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cdmo_harness.chaos import cdmo_with_knobs

from cdmo.agent.journal import Journal
from cdmo.errors import JournalUnwritable
from cdmo.runtime.clock import SystemClock


def test_a_full_disk_lets_no_journal_be_written_and_spares_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "disk-full"
    monkeypatch.setattr(os, "fsync", cdmo_with_knobs.failing_sync(os.fsync, full))
    journal = Journal(tmp_path / "journal.json")
    journal.write((), "before")
    full.touch()
    with pytest.raises(JournalUnwritable):
        journal.write((), "after")
    assert boot_in(journal) == "before"
    journal.clear()
    assert journal.read() is None
    full.unlink()
    journal.write((), "after")
    assert boot_in(journal) == "after"


def boot_in(journal: Journal) -> str:
    entry = journal.read()
    assert entry is not None
    return entry.boot_id


def test_a_stepped_clock_is_off_by_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offset = tmp_path / "offset"
    monkeypatch.setenv(cdmo_with_knobs.OFFSET_FILE, str(offset))
    stepped, real = cdmo_with_knobs.SteppedClock(), SystemClock()
    assert abs(stepped.now() - real.now()) < 60
    offset.write_text("-86400.0")
    assert abs(stepped.now() - real.now() + 86400) < 60
    assert abs(stepped.monotonic() - real.monotonic()) < 60
