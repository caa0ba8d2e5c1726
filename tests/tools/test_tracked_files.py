"""Which files the checks look at."""

from __future__ import annotations

from pathlib import Path

from tests.tools.checkout import Checkout
from tools.tracked_files import text_of, tracked_files


def test_tracked_and_new_files_are_seen_and_ignored_ones_are_not(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.write(".gitignore", "build/\n")
    tracked = checkout.write("a b.py", "x = 1\n")
    checkout.add(tracked)
    new = checkout.write("src/new.py", "y = 2\n")
    checkout.write("build/made.py", "z = 3\n")
    assert tracked_files(tmp_path) == [tmp_path / ".gitignore", tracked, new]


def test_a_tracked_file_that_was_deleted_is_left_out(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    gone = checkout.write("gone.py", "x = 1\n")
    checkout.add(gone)
    gone.unlink()
    assert tracked_files(tmp_path) == []


def test_a_binary_file_has_no_text(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert text_of(checkout.write("image.bin", b"\x89\0\1")) is None
    assert text_of(checkout.write("text.md", "words\n")) == "words\n"
