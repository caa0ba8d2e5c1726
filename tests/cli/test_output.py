"""How the command line speaks."""

from __future__ import annotations

import json

import pytest

from cdmo.cli._output import print_error, print_json, print_table
from cdmo.errors import BadSettings


def test_a_table_is_plain_text_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NODE", "SLICES"), [("gpu-1", "3g.40gb\n1g.10gb"), ("gpu-22", "")])
    said = capsys.readouterr()
    assert [line.rstrip() for line in said.out.splitlines()] == [
        "NODE    SLICES",
        "gpu-1   3g.40gb",
        "        1g.10gb",
        "gpu-22",
    ]
    assert "\x1b" not in said.out
    assert said.err == ""


def test_a_table_without_rows_is_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NODE", "GPU"), [])
    assert capsys.readouterr().out.split() == ["NODE", "GPU"]


def test_a_long_cell_is_folded_and_nothing_of_it_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NODE", "SLICES"), [("gpu-1", "x" * 300)])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert out.count("x") == 300


def test_square_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NODE",), [("[bold]gpu-1[/bold]",)])
    assert "[bold]gpu-1[/bold]" in capsys.readouterr().out


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"nodes": ["gpu-1"], "product": "µ"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"nodes": ["gpu-1"], "product": "µ"}
    assert out.endswith("}\n")


def test_an_error_and_its_hint_are_a_line_each_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(BadSettings("no such file", hint="name another"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: no such file\nhint: name another\n"


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(BadSettings("no such file"))
    assert capsys.readouterr().err == "error: no such file\n"


def test_nothing_in_a_cell_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME",), [("two\nlines",), ("\x1b[2J\u009bm\r\u202e",)])
    assert [each.strip() for each in capsys.readouterr().out.splitlines()] == ["NAME", "two", "lines", "?[2J?m ?"]


def test_json_escapes_what_would_move_the_cursor_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "ü\u202e\u009b\x1b\U000e0001\n", "emoji": "\U0001f600"}
    print_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value
    assert all(line.isprintable() for line in out.split("\n"))
    assert "ü" in out
