"""Continuous load on a real kubelet: with the fence nobody comes to harm, and without it the same load harms some."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import pytest
from cdmo_harness.load import Load, LoadSettings, Tally
from cdmo_harness.local_cluster import LocalCluster
from cdmo_harness.observer import ClusterView

from benchmarks.arrivals import LIMIT, reported
from benchmarks.conftest import StartPart
from benchmarks.real_kubelet.stand import real_cluster
from benchmarks.recording import Part
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE

NODES = 2
SETTINGS = LoadSettings(seed=20261124)
FENCED_REPARTITIONS = 200
UNFENCED_REPARTITIONS = 60
RUN_LIMIT = 1500.0  # seconds until they are done
UNFENCED_AGENT = (sys.executable, "-m", "cdmo_harness.unfenced_agent", "agent")


async def loaded(cluster: LocalCluster, repartitions: int, agent: Sequence[str] = ()) -> Tally:
    """A load on a cluster on which CDMO is started here; `agent`: the command in place of `cdmo agent`."""
    async with ClusterView(cluster.control_plane.admin_kubeconfig, cluster.control_plane.api) as view:
        await view.watch_mignodes()
        for name in cluster.nodes:
            await view.label_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE})
        cluster.start_controller()
        for name in cluster.nodes:
            cluster.start_agent(name, command=agent)
        await view.wait("the agents report", lambda: reported(view, len(cluster.nodes)), limit=LIMIT)
        return await Load(cluster, view, SETTINGS).run(repartitions, limit=RUN_LIMIT)


def record(part: Part, tally: Tally) -> None:
    """What both runs show."""
    part.figure("pods", tally.pods)
    part.figure("of these bound by spec.nodeName", tally.direct)
    part.figure("of these deleted by force", tally.forced)
    part.figure("creations that the fence refused", tally.turned_away)
    part.figure("destroys of a slice in use", tally.destroys_in_use)
    part.figure("pods given no slice", tally.without_slice)
    part.figure("fenced, median", tally.fenced, "s", of=statistics.median)
    part.figure("fenced, worst", tally.fenced, "s", of=max)
    part.figure("changes not applied (the guard refused)", sum(tally.changes_failed.values()))
    part.note("failedPods", tally.failed)
    part.note("failedChanges", tally.changes_failed)
    part.note("nodes", NODES)
    part.note("seed", SETTINGS.seed)


@pytest.mark.timeout(2400)
async def test_under_load_no_pod_is_refused_and_none_gets_a_dead_slice(part: StartPart) -> None:
    result = part("load-fenced")
    with real_cluster(NODES) as cluster:
        tally = await loaded(cluster, FENCED_REPARTITIONS)
    record(result, tally)
    result.figure("repartitions", tally.repartitions, key="repartitions")
    result.figure("pods that failed", max(tally.refused, sum(tally.failed.values())), key="failed")
    result.figure("pods on a slice that was gone", tally.dead, key="dead")
    result.figure("harm of any kind", tally.harmed, key="harmed")
    result.finish()


@pytest.mark.timeout(1200)
async def test_the_same_load_harms_pods_when_the_fence_is_left_out(part: StartPart) -> None:
    result = part("load-unfenced")
    with real_cluster(NODES) as cluster:
        tally = await loaded(cluster, UNFENCED_REPARTITIONS, UNFENCED_AGENT)
    record(result, tally)
    result.figure("repartitions", tally.repartitions)
    result.figure("pods refused by the kubelet", tally.refused)
    result.figure("pods that failed", sum(tally.failed.values()))
    result.figure("pods on a slice that was gone", tally.dead)
    result.figure("harm of any kind", tally.harmed, key="harmed")
    result.finish()
