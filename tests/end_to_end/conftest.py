"""A cluster with CDMO at work, shared by the tests of this folder as long as they leave it clean.

Its nodes are simulated, or with `--node=real` have a real kubelet: the tests are the same.

Starting one takes several seconds, so a test gets the one before it, emptied through CDMO itself. A test that fails,
or that cannot be cleaned up after, costs its cluster: the next one gets a fresh one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from cdmo_harness.binaries import Binaries
from cdmo_harness.local_cluster import DEMO_NODES, LocalCluster, NodeSpec
from cdmo_harness.observer import ClusterView
from cdmo_harness.plugin_program import PLUGIN
from cdmo_harness.processes import tail

from tests.end_to_end.bed import Bed
from tests.node_backends import NodeBackend

_FAILED = pytest.StashKey[bool]()
_LOG_LINES = 25


class ClusterPool:
    """At most one cluster, started when it is asked for."""

    def __init__(self, binaries: Binaries, backend: NodeBackend) -> None:
        self._binaries = binaries
        self._backend = backend
        self._cluster: LocalCluster | None = None

    def take(self) -> LocalCluster:
        """The cluster, with agents and a controller."""
        if self._cluster is None:
            cluster = self.new()
            cluster.start()
            self._cluster = cluster
            cluster.start_controller()
            cluster.start_agents()
        return self._cluster

    def new(self, nodes: Sequence[NodeSpec] = DEMO_NODES) -> LocalCluster:
        """A cluster that is not started, with this run's kind of nodes."""
        backend = self._backend
        return LocalCluster(
            self._binaries, nodes=nodes, make_node=backend.make_node, device_plugin=backend.device_plugin
        )

    def discard(self) -> None:
        """Stop the cluster, if there is one."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.stop()


@pytest.fixture(scope="package")
def pool(binaries: Binaries, node_backend: NodeBackend) -> Iterator[ClusterPool]:
    """The cluster between tests."""
    made = ClusterPool(binaries, node_backend)
    yield made
    made.discard()


@pytest.fixture
async def bed(pool: ClusterPool, request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """A cluster without pods and slices; afterwards it must be possible to make it so again, with nothing harmed."""
    cluster = await asyncio.to_thread(pool.take)
    clean = False
    try:
        async with ClusterView(cluster.control_plane.admin_kubeconfig, cluster.control_plane.api) as view:
            await view.watch_mignodes()
            made = Bed(cluster, view)
            await made.make_ready()
            yield made
            if not request.node.stash.get(_FAILED, False):
                await made.remove_pods()
                await made.come_to_rest()
                made.check_unharmed()
                clean = True
    finally:
        if not clean:
            await asyncio.to_thread(pool.discard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note failures for the fixture above, and show what CDMO's processes said last."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
        bed = getattr(item, "funcargs", {}).get("bed")
        if bed is not None:
            for process in (*bed.cluster.agents.values(), *bed.cluster.controllers):
                report.sections.append((f"{process.name}, running: {process.running}", process.tail(_LOG_LINES)))
            # By their files: a node of one test only is gone by now.
            for log in sorted(bed.cluster.control_plane.directory.glob(f"*/{PLUGIN}.log")):
                report.sections.append((f"{PLUGIN} of {log.parent.name}", tail(log, _LOG_LINES)))
    return report
