"""Generators write their files, or say which are stale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tools.generated import NotMade, write_or_check


def run(tmp_path: Path, flag: str, text: str = "made\n") -> int:
    return write_or_check("A page.", lambda: {tmp_path / "docs" / "page.md": text}, "the code", [flag])


def test_a_file_is_written_with_its_folder_and_then_not_stale(tmp_path: Path) -> None:
    assert run(tmp_path, "--write") == 0
    assert (tmp_path / "docs" / "page.md").read_text() == "made\n"
    assert run(tmp_path, "--check") == 0


def test_a_stale_or_missing_file_is_named_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--check") == 1
    assert run(tmp_path, "--write", "old\n") == 0
    assert run(tmp_path, "--check") == 1
    assert (tmp_path / "docs" / "page.md").read_text() == "old\n"
    said = capsys.readouterr().err
    assert said.count("page.md is not what the code makes") == 2
    assert "hint: run `make crd`" in said


def test_sources_that_contradict_each_other_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def contradicts() -> Mapping[Path, str]:
        raise NotMade("two reasons for one right")

    assert write_or_check("A page.", contradicts, "the code", ["--write"]) == 1
    assert capsys.readouterr().err == "error: two reasons for one right\n"


def test_one_of_the_two_has_to_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        write_or_check("A page.", dict, "the code", [])
    assert ended.value.code == 2
    assert "--check" in capsys.readouterr().err
