"""Log lines: one JSON object each, on stderr, of bounded length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cdmo.errors import BadSettings
from cdmo.runtime.logging import LONGEST_VALUE, configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Other tests log as if this one had not been."""
    before = structlog.get_config()
    yield
    structlog.contextvars.clear_contextvars()
    structlog.configure(**before)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = capsys.readouterr()
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def test_a_line_says_process_level_time_and_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", "info")
    structlog.get_logger().warning("the fence lapsed", node="gpu-1", seconds=0.5)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "process": "agent",
        "level": "warning",
        "event": "the fence lapsed",
        "node": "gpu-1",
        "seconds": 0.5,
    }


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", "warning")
    structlog.get_logger().info("not this")
    structlog.get_logger().error("but this")
    assert [each["event"] for each in lines(capsys)] == ["but this"]


def test_values_from_outside_are_cut_to_length(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", "info")
    structlog.get_logger().info("long", error="x" * 100_000)
    (line,) = lines(capsys)
    assert line["error"] == "x" * LONGEST_VALUE + "…"


def test_a_newline_in_a_value_stays_inside_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", "info")
    structlog.get_logger().info("forged", pod='a\n{"event": "nonsense"}')
    (line,) = lines(capsys)
    assert line["pod"] == 'a\n{"event": "nonsense"}'


def test_any_value_can_be_logged_and_an_exception_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("agent", "info")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed", what=frozenset({"a"}))
    (line,) = lines(capsys)
    assert "ValueError: broken" in line["exception"]
    assert line["what"] == "frozenset({'a'})"


def test_a_level_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadSettings, match="'loud'") as raised:
        configure_logging("agent", "loud")
    assert raised.value.hint == "choose one of debug, info, warning, error"
