"""Every part that was measured is printed at the end, its figures beside their bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.recording import Figure, Part, table

_PRINTED = pytest.StashKey[list[tuple[str, Figure]]]()

REAL_KUBELET = Path(__file__).with_name("real_kubelet")

StartPart = Callable[[str], Part]


@pytest.fixture
def part(request: pytest.FixtureRequest) -> StartPart:
    """Start a part of the benchmark in the test's folder, by its name in bounds.toml."""
    printed = request.config.stash.setdefault(_PRINTED, [])
    folder = Path(request.path).parent
    return lambda name: Part(folder, name, printed)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs root and a kubelet is only measured when its folder, or a file in it, is named."""
    if collection_path == REAL_KUBELET and not any(REAL_KUBELET.name in each for each in config.args):
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    rows = config.stash.get(_PRINTED, [])
    if rows:
        terminalreporter.section("figures beside their bounds")
        for line in table(rows):
            terminalreporter.write_line(line)
