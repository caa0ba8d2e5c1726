"""Bring the demo's cluster up, a step at a time, and take it down whatever happens."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cdmo.api.v1alpha1 import MigNode
from cdmo.errors import CdmoError
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.reasons import ConditionType
from cdmo_harness import manifests
from cdmo_harness.binaries import cache_root
from cdmo_harness.clearml.agent import ClearmlAgent
from cdmo_harness.clearml.glue import ClearmlGlue
from cdmo_harness.clearml.queues import read_queues
from cdmo_harness.demo.steps import Steps
from cdmo_harness.demo.waves import CLEARML_NAMESPACE
from cdmo_harness.errors import ControlPlaneError, ProcessError
from cdmo_harness.local_cluster import LocalCluster
from cdmo_harness.observer import ClusterView
from cdmo_harness.threads import to_the_end

QUEUES = manifests.REPOSITORY / "examples" / "01-clearml-queues" / "values.yaml"

# Seconds until every agent has reported its node.
_REPORT_LIMIT = 60.0
_ACCOUNT_LIMIT = 30.0

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the scenario needs, running."""

    cluster: LocalCluster
    view: ClusterView
    glue: ClearmlGlue
    kubectl: Path


@asynccontextmanager
async def running(cluster: LocalCluster, steps: Steps, on_failure: Callable[[], None]) -> AsyncIterator[Stage]:
    """The cluster with CDMO at work on every node, and ClearML's glue; all stopped at the end of the block.

    `on_failure` is called when something fails, here or in the block, while the cluster is still there.
    """
    installation = asyncio.create_task(asyncio.to_thread(_clearml_agent, steps))
    try:
        await _start(cluster, steps)
        plane = cluster.control_plane
        async with ClusterView(plane.admin_kubeconfig, plane.api) as view:
            await view.watch_mignodes()
            await _hand_over(cluster, view, steps)
            with steps.doing("ClearML's agent, from its wheel"):
                agent = await installation
                await _make_namespace(cluster, view)
            glue = ClearmlGlue(
                agent, read_queues(QUEUES), kubeconfig=plane.admin_kubeconfig, namespace=CLEARML_NAMESPACE
            )
            yield Stage(cluster, view, glue, agent.kubectl)
    except CdmoError:
        on_failure()
        raise
    finally:
        steps.say("stopping")
        await _wait_out(installation)
        await asyncio.to_thread(cluster.stop)


def save_logs(cluster: LocalCluster, *, keep_files: bool) -> Path | None:
    """Copy the log files of a cluster that is still up to a folder that stays; None when there are none.

    `keep_files` says that the cluster's own folder stays: then that is the one.
    """
    try:
        source = cluster.control_plane.directory
    except ControlPlaneError:  # it did not come up, and took its folder with it
        return None
    if keep_files:
        return source
    target = Path(tempfile.mkdtemp(prefix="cdmo-logs-"))
    for log in source.rglob("*.log"):
        shutil.copyfile(log, target / "-".join(log.relative_to(source).parts))
    return target


def check_processes(cluster: LocalCluster) -> None:
    """Raise ProcessError when one of CDMO's processes has ended: no use in waiting for what it would have done."""
    for process in (*cluster.controllers, *cluster.agents.values()):
        if not process.running:
            raise ProcessError(
                f"{process.name} ended with status {process.exit_status}: {process.tail(1)[:500]}",
                hint="its log says more",
            )


async def _start(cluster: LocalCluster, steps: Steps) -> None:
    with steps.doing("control plane: etcd and Kubernetes on loopback"):
        await to_the_end(cluster.start_control_plane)
    with steps.doing("CDMO's manifests: CRD, fence policy, RBAC"):
        await to_the_end(cluster.install_manifests)
    with steps.doing("nodes: 2 x H100-80GB, 2 x A100-80GB, 1 x A30, MIG on"):
        await to_the_end(cluster.start_nodes)


async def _hand_over(cluster: LocalCluster, view: ClusterView, steps: Steps) -> None:
    """What the page tells the administrator to do, and what its chart would start."""
    with steps.doing(f"kubectl label nodes --all {PARTITIONING_LABEL}={PARTITIONING_VALUE}"):
        for name in cluster.nodes:
            await view.label_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE})
    with steps.doing("CDMO: a controller, and an agent on each node; all nodes ready"):
        await to_the_end(cluster.start_controller)
        await to_the_end(cluster.start_agents)
        await view.wait(
            "every MigNode is Ready and shows its GPUs",
            lambda: _all_reported(cluster, view),
            limit=_REPORT_LIMIT,
        )


def _all_reported(cluster: LocalCluster, view: ClusterView) -> bool:
    check_processes(cluster)
    return all(_reported(view.mignodes[name]) for name in cluster.nodes)


def _reported(node: MigNode) -> bool:
    ready = any(each.type == ConditionType.READY and each.status == "True" for each in node.status.conditions)
    return ready and bool(node.status.gpus)


async def _make_namespace(cluster: LocalCluster, view: ClusterView) -> None:
    """ClearML's namespace. Pods are refused in it until the controller manager has made its ServiceAccount."""
    api = cluster.control_plane.api
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CLEARML_NAMESPACE}}
    await asyncio.to_thread(api.create, "/api/v1/namespaces", namespace)
    account = f"/api/v1/namespaces/{CLEARML_NAMESPACE}/serviceaccounts/default"
    await view.wait("ClearML's ServiceAccount", lambda: api.answers(account), limit=_ACCOUNT_LIMIT)


def _clearml_agent(steps: Steps) -> ClearmlAgent:
    return ClearmlAgent.ready(cache_root(os.environ), environment=os.environ, progress=steps)


async def _wait_out(task: asyncio.Task[_Result]) -> None:
    """Until a task has ended, however it ends: a thread cannot be interrupted."""
    with suppress(Exception):
        await task
