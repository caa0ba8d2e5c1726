"""Nodes of either kind on the local control plane: one contract, two backends (see tests/node_backends.py)."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.driver import GpuSpec
from cdmo_harness.gpu_node import GpuNode, NodeSetup
from cdmo_harness.kubelet.api import Api

from tests.harness.kubelet.cluster import Cluster
from tests.node_backends import NodeBackend
from tests.simulated import simulated_library

__all__ = ["simulated_library"]

GPU = GpuSpec("H100-SXM5-80GB", "00000000:10:00.0", "GPU-11111111-1111-4111-8111-111111111111")

StartNode = Callable[..., AbstractContextManager[GpuNode]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="cdmo-") as path:
        yield Path(path)


@pytest.fixture
def setup(
    request: pytest.FixtureRequest, control_plane: ControlPlane, simulated_library: Path, node_backend: NodeBackend
) -> NodeSetup:
    """A node with one GPU and a short status period, named after the test."""
    name = f"node-{abs(hash(request.node.name)) % 10**8}"
    return NodeSetup(
        name,
        control_plane.kubeconfig_for_node(name),
        simulated_library,
        [GPU],
        status_period=1.0,
        start_latency=0.02,
        kubelet_minor=node_backend.minor,
        device_plugin=node_backend.device_plugin,
    )


@pytest.fixture
def start_node(setup: NodeSetup, folder: Path, node_backend: NodeBackend) -> StartNode:
    """Start the node, with other settings where a test needs them: `with start_node(status_period=4.0) as node`."""

    @contextmanager
    def start(**settings: Any) -> Iterator[GpuNode]:
        with node_backend.make_node(replace(setup, **settings), folder) as node:
            yield node

    return start


@pytest_asyncio.fixture
async def node(start_node: StartNode, cluster: Cluster) -> AsyncIterator[GpuNode]:
    """A started node whose GPU has MIG off, registered and ready."""
    with start_node() as started:
        await cluster.ready()
        yield started


@pytest_asyncio.fixture
async def cluster(setup: NodeSetup, control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    """The API as a test uses it; removes the node and its pods afterwards."""
    api = Api.from_kubeconfig(control_plane.admin_kubeconfig)
    found = Cluster(api, setup.name)
    yield found
    await found.clean()
    await api.close()
