"""The journal: whole after a kill at any line, and never trusted blindly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdmo.agent.journal import MAXIMUM_BYTES, Entry, Journal
from cdmo.agent.steps import Action, Step
from cdmo.errors import JournalUnwritable
from cdmo.model.gpu import Placement
from tests.agent.cards import BUS

STEPS = (
    Step(Action.ENABLE_MIG, BUS),
    Step(Action.DESTROY, BUS, Placement(9, 0)),
    Step(Action.CREATE, BUS, Placement(19, 0)),
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "journal.json")
    journal.write(STEPS, "boot-1")
    entry = journal.read()
    assert entry is not None
    assert tuple(each.step() for each in entry.steps) == STEPS
    assert entry.boot_id == "boot-1"
    assert entry.being_made() == {(BUS, Placement(9, 0)), (BUS, Placement(19, 0))}


def test_no_journal_means_no_change_was_under_way(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.json").read() is None


def test_a_cleared_journal_is_gone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    journal.write(STEPS, "boot-1")
    journal.clear()
    journal.clear()
    assert journal.read() is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"boot_id": 3}', b"\xff\xfe", b"[]" * 10])
def test_an_unreadable_journal_says_that_something_was_under_way(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.json"
    path.write_bytes(content)
    assert Journal(path).read() == Entry("")


def test_a_half_written_journal_does_not_replace_a_whole_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    journal.write(STEPS, "boot-1")
    (tmp_path / "journal.json.new").write_bytes(b"{")
    entry = journal.read()
    assert entry is not None and entry.boot_id == "boot-1"


def test_a_journal_that_cannot_be_written_stops_the_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(JournalUnwritable, match="cannot be written") as caught:
        Journal(tmp_path / "file" / "journal.json").write(STEPS, "boot-1")
    assert "nothing was changed" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b'{"boot_id": "b", "odd": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"boot_id": "\xff"}',
        b'{"boot_id": "b", "steps": [{"action": "Create", "gpu": "../../gpu", "profile_id": 9, "start": 0}]}',
        b'{"boot_id": "b", "steps": [{"action": "Create", "gpu": "00000000:10:00.0", "profile_id": -1, "start": 0}]}',
        b'{"boot_id": "b", "steps": [{"action": "Create", "gpu": "00000000:10:00.0", "profile_id": 9, "start": 99}]}',
        b'{"boot_id": "b"}' + b" " * MAXIMUM_BYTES,
    ],
)
def test_a_journal_that_cannot_be_believed_is_one_of_which_nothing_is_known(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.json"
    path.write_bytes(content)
    assert Journal(path).read() == Entry("")


def test_what_was_put_in_the_journals_place_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"boot_id": "theirs"}')
    (tmp_path / "linked.json").symlink_to(elsewhere)
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("linked.json", "fifo.json", "folder.json"):
        assert Journal(tmp_path / name).read() == Entry("")


def test_writing_overwrites_nothing_that_a_link_names(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / "journal.json.new").symlink_to(elsewhere)
    (tmp_path / "journal.json").symlink_to(elsewhere)
    journal = Journal(tmp_path / "journal.json")
    journal.write(STEPS, "boot-1")
    assert elsewhere.read_text() == "precious"
    entry = journal.read()
    assert entry is not None and entry.boot_id == "boot-1"
