"""A pod that asks for a whole GPU under a constant stream of small ones, on a real scheduler.

The scheduler binds a waiting pod some milliseconds after a slice is free, the agent needs some hundred to destroy it:
without withholding the small pods win that race every time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from cdmo_harness.local_cluster import NodeSpec
from cdmo_harness.observer import ClusterView, PodSight

from tests.end_to_end.bed import LABELLED, SOON, Bed
from tests.end_to_end.conftest import ClusterPool

log = structlog.get_logger(__name__)

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(240),
    pytest.mark.simulated_kubelet(reason="it is about the scheduler and the plan; the kubelet takes no part"),
]

NODE = "gpu-1"
SMALL = "nvidia.com/mig-1g.10gb"
RESERVE_AFTER = 8.0  # seconds; 300 unless the controller is told
RUNS = (1.5, 3.5)  # seconds that a small pod runs
QUEUE = 3  # small pods that wait at any time
BOUND = (
    60.0  # seconds from the window's beginning; no slice is longer in use than RUNS, but a test machine may be busy
)
SEED = 20261124


@pytest.fixture
async def bed(pool: ClusterPool) -> AsyncIterator[Bed]:
    """One H100 whose controller keeps windows soon. The shared cluster makes room: two are a lot for one machine."""
    await asyncio.to_thread(pool.discard)
    cluster = pool.new((NodeSpec(NODE, ("H100-SXM5-80GB",)),))
    try:
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.start_controller, f"--reserve-after={RESERVE_AFTER:g}")
        await asyncio.to_thread(cluster.start_agents)
        async with ClusterView(cluster.control_plane.admin_kubeconfig, cluster.control_plane.api) as view:
            await view.watch_mignodes()
            made = Bed(cluster, view)
            await view.label_node(NODE, LABELLED)
            await view.wait("the agent reports", lambda: made.condition(NODE).status == "True", limit=30.0)
            yield made
    finally:
        await asyncio.to_thread(cluster.stop)


class Stream:
    """Small pods, of which some always wait."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._random = random.Random(SEED)
        self._number = 0

    def pods(self) -> list[PodSight]:
        return [each for key, each in self._bed.view.pods.items() if key.startswith("default/small-")]

    def waiting(self) -> int:
        return sum(not each.info.node_name for each in self.pods())

    def running(self) -> int:
        return sum(each.phase == "Running" for each in self.pods())

    def begun(self) -> int:
        return sum(each.running_at is not None for each in self.pods())

    async def flow(self) -> None:
        """For ever: another one whenever fewer than QUEUE wait."""
        view = self._bed.view
        while True:
            await view.wait("the queue moves", lambda: self.waiting() < QUEUE, limit=BOUND)
            self._number += 1
            seconds = self._random.uniform(*RUNS)
            key = await self._bed.submit(f"small-{self._number}", "1g.10gb", run_seconds=seconds)
            await view.wait(f"{key} is seen", lambda key=key: key in view.pods, limit=SOON)


@asynccontextmanager
async def flowing(bed: Bed) -> AsyncIterator[Stream]:
    stream = Stream(bed)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stream.flow())
        yield stream
        task.cancel()


async def test_a_whole_gpu_is_had_under_a_constant_stream_of_small_pods_which_then_goes_on(bed: Bed) -> None:
    view, clock = bed.view, asyncio.get_running_loop().time
    first = [await bed.submit(f"first-{number}", "1g.10gb", run_seconds=5.0) for number in range(7)]
    await view.wait("all slices are cut", lambda: all(view.pods[each].running_at for each in first), limit=BOUND)
    # It is the oldest that waits: whoever came before it would be served before it, window or not.
    whole = await bed.submit("a-whole-gpu", "7g.80gb", run_seconds=2.0)
    async with flowing(bed) as stream:
        await view.wait("a window is kept", lambda: bool(withheld(bed)), limit=BOUND)
        began, before = clock(), stream.begun()
        assert before  # until then the small ones won every slice that became free
        await view.wait("the whole GPU is had", lambda: view.pods[whole].phase == "Running", limit=BOUND)
        took, passed = clock() - began, stream.begun() - before
        assert bed.slices(NODE).keys() == {(0, 0, 0)}
        assert stream.waiting() >= QUEUE - 1  # the next one may be on its way

        await view.wait("it has ended", lambda: view.pods[whole].phase == "Succeeded", limit=BOUND)
        ended = stream.begun()
        await view.wait("the stream goes on", lambda: stream.begun() >= ended + 14, limit=BOUND)
        log.info(
            "a window was kept", seconds=round(took, 2), small_pods_let_through=passed, changes=bed.changes(NODE)
        )

    await view.wait("all have ended", lambda: all(each.info.finished for each in view.pods.values()), limit=BOUND)
    assert {key: each.message for key, each in view.pods.items() if each.phase != "Succeeded"} == {}
    assert not withheld(bed)
    await bed.come_to_rest()
    bed.check_unharmed()


def withheld(bed: Bed) -> list[int]:
    """First slots of the slices that no new pod may get."""
    return [each.start for gpu in bed.view.mignodes[NODE].spec.gpus for each in gpu.withheld]
