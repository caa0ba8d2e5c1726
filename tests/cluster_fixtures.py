"""The local control plane as a fixture, one for the whole test session.

Tests that use it carry `@pytest.mark.cluster`. They share the API server, so each makes objects under names (or
in a namespace) of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from cdmo_harness.binaries import CONTROL_PLANE, Binaries, Component, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.errors import BinariesError
from cdmo_harness.run_folder import cleanup_leftovers
from rich.console import Console

_BINARIES = pytest.StashKey[Binaries]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the programs before the first test: a first build takes minutes, far beyond one test's limit."""
    if session.config.option.collectonly or not any(item.get_closest_marker("cluster") for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    visible = capture.global_and_fixture_disabled() if capture is not None else nullcontext()
    with visible, show_progress(Console(stderr=True)) as progress:
        components = [*CONTROL_PLANE, Component.KUBECTL]
        if session.config.getoption("node") == "real":
            components.append(Component.KUBELET)
        try:
            found = find_binaries(
                components,
                environment=os.environ,
                progress=progress,
                kubernetes=session.config.getoption("kubernetes"),
            )
        except BinariesError as error:
            # A test session cannot do without; as a usage error it ends with these lines, not a traceback.
            raise pytest.UsageError(f"{error}\nhint: {error.hint}") from error
    session.config.stash[_BINARIES] = found


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> Binaries:
    """The control plane's programs and kubectl."""
    found = pytestconfig.stash.get(_BINARIES, None)
    if found is None:
        pytest.fail("a test that uses the local control plane must be marked: @pytest.mark.cluster")
    return found


@pytest.fixture(scope="session")
def control_plane(binaries: Binaries) -> Iterator[ControlPlane]:
    """A running control plane, stopped at the end of the session."""
    cleanup_leftovers()
    with ControlPlane(binaries) as running:
        yield running
