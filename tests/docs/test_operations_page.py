"""docs/operations.md lists every metric, flag and limit there is, as the code has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from cdmo.agent.change import PHASE_LIMITS
from cdmo.agent.main import AgentSettings, DriverLimits
from cdmo.agent.metrics import AgentMetrics
from cdmo.agent.metrics import asked as asked_of_agent
from cdmo.cli.agent import DRIVER_CHANGE_LIMIT, DRIVER_READ_LIMIT
from cdmo.cli.app import app
from cdmo.controller.main import ControllerSettings
from cdmo.controller.metrics import ControllerMetrics
from cdmo.controller.metrics import asked as asked_of_controller
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Waiting
from cdmo.model.reasons import WaitingCode
from cdmo.runtime.worker import Worker
from cdmo.serving.asked import Watch, common, register
from tests.docs.pages import REPOSITORY
from tests.fakes.clock import VirtualClock

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
METRIC = re.compile(
    r"^\| `(?P<name>cdmo_\w+)` \| (?P<type>\w+) \| (?:`(?P<label>\w+)`)? ?\| (?P<means>[^|]+?) \|$", re.MULTILINE
)
PHASE = re.compile(r"^\| `(?P<phase>\w+)` \| (?P<limit>\d+) s \|", re.MULTILINE)
FLAG = re.compile(r"^\| `(?P<flag>--[\w-]+)` \| (?P<of>\w+) \| (?:`?(?P<default>[\w.:]+)`?)? ?\|", re.MULTILINE)


def registries() -> Iterator[CollectorRegistry]:
    """What the two processes serve."""
    watches = (Watch("pods", lambda: True, lambda: 0),)
    agent, controller = AgentMetrics(), ControllerMetrics()
    worker = Worker("nvml", VirtualClock(), 1.0, lambda _: None)
    register(agent.registry, asked_of_agent(worker, ready=lambda: True, heartbeat_age=lambda: 0.0))
    register(controller.registry, asked_of_controller(leads=lambda: True, pending=lambda: 0, promised=lambda: 0))
    controller.waiting([Waiting(PodKey("ml", "p"), WaitingCode.NO_ROOM, "…")])
    for each in (agent.registry, controller.registry):
        register(each, common(watches, lambda: 0, lambda: 0))
        yield each


def served() -> Iterable[tuple[str, str, str, str]]:
    """Name, type, label and meaning of every metric."""
    found = set()
    for registry in registries():
        for metric in registry.collect():
            labels = {name for sample in metric.samples for name in sample.labels} - {"le"}
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            found.add((name, metric.type, "".join(labels), metric.documentation))
    return found


def test_every_metric_is_listed_with_its_meaning_and_none_that_is_gone() -> None:
    listed = {(each["name"], each["type"], each["label"] or "", each["means"]) for each in METRIC.finditer(PAGE)}
    assert listed == served()


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
