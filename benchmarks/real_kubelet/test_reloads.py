"""Reloads of the device plugin with a kubelet that stands still around them: CDMO's way, and a bare SIGHUP."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator

import pytest
from cdmo_harness.local_cluster import LocalCluster

from benchmarks.conftest import StartPart
from benchmarks.real_kubelet.reloads import NVML_INIT, ReloadStand, Tried, reload_stand
from benchmarks.real_kubelet.stand import real_cluster
from benchmarks.recording import Part

STALLS = (0.0, 0.02, 0.05, 0.2)  # seconds
DRIVER_STARTS = (0.0, 0.01)  # seconds for nvmlInit
HELD, PLAIN = 100, 50  # reloads of each kind
PODS_EVERY = 25  # reloads

Reload = Callable[[float, Tried], Awaitable[None]]

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One node, no agent."""
    with real_cluster(1) as started:
        yield started


async def try_all(result: Part, stand: ReloadStand, reload: Reload, times: int) -> list[Tried]:
    """Every stall with every driver start; a figure each."""
    all_of_them = []
    for start in DRIVER_STARTS:
        stand.node.driver.set_latency(NVML_INIT, start)
        for stall in STALLS:
            tried = Tried()
            for number in range(1, times + 1):
                await reload(stall, tried)
                if number % PODS_EVERY == 0:
                    await stand.pods_are_served(tried)
            kind = f"stall {stall * 1000:.0f} ms, driver {start * 1000:.0f} ms"
            result.figure(f"{kind}: broken", tried.broken)
            if tried.seconds:
                result.figure(f"{kind}: seconds", tried.seconds, "s", of=statistics.median)
            all_of_them.append(tried)
    result.figure("reloads", times * len(all_of_them), key="reloads")
    result.figure("back after another try", sum(each.late for each in all_of_them))
    result.figure("pods refused after a reload", sum(each.refused for each in all_of_them))
    return all_of_them


async def test_a_reload_never_leaves_the_kubelet_broken(cluster: LocalCluster, part: StartPart) -> None:
    result = part("reloads")
    async with reload_stand(cluster) as stand:
        tried = await try_all(result, stand, stand.held_reload, HELD)
    result.figure("kubelets left broken", sum(each.broken + each.refused for each in tried), key="broken")
    result.finish()


async def test_what_a_bare_signal_does(cluster: LocalCluster, part: StartPart) -> None:
    """For comparison: no bound but that it was tried."""
    result = part("reloads-plain")
    async with reload_stand(cluster) as stand:
        tried = await try_all(result, stand, stand.plain_reload, PLAIN)
    result.figure("kubelets left broken", sum(each.broken + each.refused for each in tried))
    result.finish()
