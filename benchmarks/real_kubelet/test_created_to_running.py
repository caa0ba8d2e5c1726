"""Created → Running on a newly cut slice of a node with a real kubelet: 50 pods arriving one by one.

Twice: with pods that mount no token of a ServiceAccount, for which the bounds were set, and with such that do, as
pods do by default. For these the kubelet looks every 300 ms whether the volume is there
(podAttachAndMountRetryInterval of pkg/kubelet/volumemanager), and the first look always comes too early.
"""

from __future__ import annotations

import statistics

import pytest
from cdmo_harness.local_cluster import CREATE_SECONDS, DESTROY_SECONDS

from benchmarks.arrivals import PARTS, SEED, measure
from benchmarks.conftest import StartPart
from benchmarks.real_kubelet.stand import real_cluster

PODS = 50
NODES = 2


@pytest.mark.timeout(900)
@pytest.mark.parametrize("token", [False, True], ids=["without-a-token", "with-a-token"])
async def test_a_pod_runs_on_a_newly_cut_slice_of_a_real_kubelet_within_the_bounds(
    part: StartPart, *, token: bool
) -> None:
    result = part("created-to-running-with-token" if token else "created-to-running")
    with real_cluster(NODES) as cluster:
        measured = await measure(cluster, PODS, token=token)
    result.figure("created to Running, median", measured.seconds, "s", key="median", of=statistics.median)
    result.figure("created to Running, worst", measured.seconds, "s", key="worst", of=max)
    result.figure("fenced, median", measured.fenced, "s", key="fenced", of=statistics.median)
    for name in PARTS:
        result.figure(f"{name}, median", measured.parts[name], "s", of=statistics.median)
    result.figure("changes that failed", len(measured.failed))
    result.note("failures", measured.failed)
    result.note("pods", PODS)
    result.note("nodes", NODES)
    result.note("seed", SEED)
    result.note("driver", {"createSeconds": CREATE_SECONDS, "destroySeconds": DESTROY_SECONDS})
    result.finish()
