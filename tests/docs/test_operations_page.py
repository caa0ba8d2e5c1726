"""docs/operations.md lists every flag and limit there is, as the code has them."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from cdmo.agent.change import PHASE_LIMITS
from cdmo.agent.main import AgentSettings, DriverLimits
from cdmo.cli.agent import DRIVER_CHANGE_LIMIT, DRIVER_READ_LIMIT
from cdmo.cli.app import app
from cdmo.controller.main import ControllerSettings
from tests.docs.pages import REPOSITORY

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
PHASE = re.compile(r"^\| `(?P<phase>\w+)` \| (?P<limit>\d+) s \|", re.MULTILINE)
FLAG = re.compile(r"^\| `(?P<flag>--[\w-]+)` \| (?P<of>\w+) \| (?:`?(?P<default>[\w.:]+)`?)? ?\|", re.MULTILINE)


def test_the_limits_of_the_phases_are_those_of_the_code() -> None:
    listed = {each["phase"]: float(each["limit"]) for each in PHASE.finditer(PAGE)}
    assert listed == {phase.value: limit for phase, limit in PHASE_LIMITS.items()}


def test_the_flags_are_those_of_the_programs() -> None:
    listed = {each["flag"]: (each["of"], each["default"]) for each in FLAG.finditer(PAGE)}
    assert listed["--driver-read-limit"] == ("agent", f"{DRIVER_READ_LIMIT:g}")
    assert listed["--driver-change-limit"] == ("agent", f"{DRIVER_CHANGE_LIMIT:g}")
    assert DriverLimits() == DriverLimits(DRIVER_READ_LIMIT, DRIVER_CHANGE_LIMIT)
    helps = {verb: CliRunner().invoke(app, [verb, "--help"]).output for verb in ("agent", "controller")}
    for flag, (of, _) in listed.items():
        for verb in helps if of == "both" else (of,):
            assert flag in helps[verb]
    assert "127.0.0.1:0" in helps["agent"]


@pytest.mark.parametrize(("process", "settings"), [("agent", AgentSettings), ("controller", ControllerSettings)])
def test_how_long_no_progress_may_last_is_said(process: str, settings: type) -> None:
    limit = settings.__dataclass_fields__["stuck_after"].default  # type: ignore[attr-defined]
    assert f"{limit:g} s for the {process}" in " ".join(PAGE.split())
