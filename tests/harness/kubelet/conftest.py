"""Simulated nodes on the local control plane, for tests that are marked `cluster`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.driver import GpuSpec, build_library
from cdmo_harness.kubelet.api import Api
from cdmo_harness.simulated_node import NodeSetup, SimulatedNode

from tests.harness.kubelet.cluster import Cluster

GPU = GpuSpec("H100-SXM5-80GB", "00000000:10:00.0", "GPU-11111111-1111-4111-8111-111111111111")


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated libnvidia-ml, built once."""
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="cdmo-") as path:
        yield Path(path)


@pytest.fixture
def setup(request: pytest.FixtureRequest, control_plane: ControlPlane, nvml_library: Path) -> NodeSetup:
    """A node with one GPU and a short status period, named after the test."""
    name = f"node-{abs(hash(request.node.name)) % 10**8}"
    return NodeSetup(name, control_plane.admin_kubeconfig, nvml_library, [GPU], status_period=1.0, start_latency=0.02)


@pytest.fixture
def node(setup: NodeSetup, folder: Path) -> Iterator[SimulatedNode]:
    """A started node whose GPU has MIG off."""
    with SimulatedNode(setup, folder) as started:
        yield started


@pytest_asyncio.fixture
async def cluster(setup: NodeSetup) -> AsyncIterator[Cluster]:
    """The API as a test uses it; removes the node and its pods afterwards."""
    api = Api.from_kubeconfig(setup.kubeconfig)
    found = Cluster(api, setup.name)
    yield found
    await found.clean()
    await api.close()
