"""Which kubelet the tests with nodes run against: the stand-in, or with `--node=real` Kubernetes' own.

    pytest tests/real_node tests/end_to_end --node=real --kubernetes=1.36.3 --device-plugin=PATH

A test that can only be had from one of them says so by a marker, with its reason; what was left out for that is
listed at the end of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cdmo_harness.binaries import Binaries, Component
from cdmo_harness.errors import HarnessError
from cdmo_harness.local_cluster import NodeMaker
from cdmo_harness.real_node import RealNode
from cdmo_harness.real_node.requirements import check_machine
from cdmo_harness.run_folder import cleanup_leftovers
from cdmo_harness.simulated_node import SimulatedNode

SIMULATED, REAL = "simulated", "real"
_MARKERS = {SIMULATED: "simulated_kubelet", REAL: "real_kubelet"}
_LEFT_OUT = pytest.StashKey[dict[str, int]]()


@dataclass(frozen=True, slots=True)
class NodeBackend:
    """How nodes are made. `minor`: of the kubelet's version; the stand-in plays 1.37 and, when told, 1.36."""

    make_node: NodeMaker
    real: bool
    minor: int
    device_plugin: Path | None


def pytest_addoption(parser: pytest.Parser) -> None:
    """The three options."""
    group = parser.getgroup("nodes")
    group.addoption("--node", choices=(SIMULATED, REAL), default=SIMULATED, help="whose kubelet; real needs root")
    group.addoption("--kubernetes", metavar="VERSION", help="version of the whole cluster, for instance 1.36.3")
    group.addoption("--device-plugin", type=Path, metavar="PATH", help="a real NVIDIA device plugin's program")


def pytest_configure(config: pytest.Config) -> None:
    """The markers' meaning."""
    for kind, name in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}(reason): can only be had from the {kind} kubelet")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what belongs to the other kubelet."""
    other = _MARKERS[SIMULATED if config.getoption("node") == REAL else REAL]
    left_out: dict[str, int] = {}
    kept: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker(other)
        if marker is None:
            kept.append(item)
            continue
        reason = str(marker.kwargs["reason"])
        left_out[reason] = left_out.get(reason, 0) + 1
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    config.stash[_LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and why."""
    left_out = config.stash.get(_LEFT_OUT, {})
    if left_out and config.getoption("node") == REAL:
        terminalreporter.section("not on a real kubelet")
        for reason, count in sorted(left_out.items()):
            terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")


@pytest.fixture(scope="session")
def node_backend(pytestconfig: pytest.Config, binaries: Binaries) -> NodeBackend:
    """How this run makes nodes. A machine that cannot run a real one fails the test that asks for it."""
    plugin = pytestconfig.getoption("device_plugin")
    if pytestconfig.getoption("node") == SIMULATED:
        return NodeBackend(SimulatedNode, real=False, minor=37, device_plugin=plugin)
    try:
        check_machine()
    except HarnessError as error:
        pytest.fail(f"{error}\nhint: {error.hint}", pytrace=False)
    cleanup_leftovers()
    make = partial(RealNode, kubelet=binaries.path(Component.KUBELET))
    version = pytestconfig.getoption("kubernetes")
    minor = int(version.split(".")[1]) if version else 37
    return NodeBackend(make, real=True, minor=minor, device_plugin=plugin)
