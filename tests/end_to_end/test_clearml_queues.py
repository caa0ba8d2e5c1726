"""Tasks in the four queues of ClearML's guide run on slices that were cut for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import uuid
from pathlib import Path

import msgspec
import pytest
from cdmo_harness.binaries import cache_root
from cdmo_harness.build_progress import show_progress
from cdmo_harness.clearml.agent import ClearmlAgent
from cdmo_harness.clearml.glue import ClearmlGlue, Submission
from cdmo_harness.clearml.queues import read_queues
from cdmo_harness.local_cluster import CDMO
from rich.console import Console

from cdmo.api.v1alpha1 import MigNode
from tests.end_to_end.bed import SOON, Bed

# The first of these tests on a machine downloads about 25 MB.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.simulated_kubelet(reason="ClearML's pods name an image of a registry, which a test does not reach"),
]

GUIDE = Path(__file__).resolve().parents[2] / "examples/01-clearml-queues/values.yaml"
PROFILES = {"slice-1": "1g.10gb", "slice-2": "2g.20gb", "slice-4": "4g.40gb", "slice-7": "7g.80gb"}


@pytest.fixture(scope="module")
def agent() -> ClearmlAgent:
    """clearml-agent, ready to run."""
    with show_progress(Console(stderr=True)) as progress:
        return ClearmlAgent.ready(cache_root(os.environ), environment=os.environ, progress=progress)


async def namespace_of(bed: Bed) -> str:
    """The guide's namespace, in which pods can be made."""
    control_plane = bed.cluster.control_plane
    await asyncio.to_thread(control_plane.kubectl, "create", "namespace", "clearml")
    wait = ("wait", "--for=create", "serviceaccount/default", "--namespace=clearml", "--timeout=30s")
    await asyncio.to_thread(control_plane.kubectl, *wait)
    return "clearml"


async def test_a_task_of_each_queue_runs_on_a_slice_cut_for_it_and_the_slice_shows_whose_it_is(
    bed: Bed, agent: ClearmlAgent
) -> None:
    namespace = await namespace_of(bed)
    kubeconfig = bed.cluster.control_plane.admin_kubeconfig
    glue = ClearmlGlue(agent, read_queues(GUIDE), kubeconfig=kubeconfig, namespace=namespace)
    tasks = [Submission(queue, uuid.uuid4().hex) for queue in PROFILES]
    names = await asyncio.to_thread(glue.submit_all, tasks)

    for task, name in zip(tasks, names, strict=True):
        pod = await bed.running(f"{namespace}/{name}")
        held = bed.slice_of(pod)
        assert held.profile == PROFILES[task.queue]
        assert held.full_width
        assert held.processes == 1
        await bed.view.wait(
            f"the status of {pod.info.node_name} says who holds {held.uuid}",
            lambda pod=pod, held=held: (
                holder(bed, pod.info.node_name, held.uuid) == f"{namespace}/{pod.info.key.name}"
            ),
            limit=SOON,
        )

    shown = await asyncio.to_thread(shown_by_status, bed)
    assert shown == {f"{namespace}/{name}": PROFILES[task.queue] for task, name in zip(tasks, names, strict=True)}


def holder(bed: Bed, node: str, uuid: str) -> str:
    """The pod that a MigNode's status names for a slice, as "namespace/name"; empty for none."""
    devices = [each for gpu in bed.view.mignodes[node].status.gpus for each in gpu.devices]
    # The pod may run before the agent has reported its slice.
    pod = next((each.pod for each in devices if each.uuid == uuid), None)
    return f"{pod.namespace}/{pod.name}" if pod else ""


def shown_by_status(bed: Bed) -> dict[str, str]:
    """The profile that `cdmo status` shows for each pod."""
    command = [str(CDMO), "status", f"--kubeconfig={bed.cluster.control_plane.admin_kubeconfig}", "--output=json"]
    said = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    nodes = msgspec.json.decode(said, type=list[MigNode])
    return {
        f"{each.pod.namespace}/{each.pod.name}": profile.name
        for node in nodes
        for gpu in node.status.gpus
        for each in gpu.devices
        for profile in node.status.models[gpu.model].profiles
        if each.pod and profile.id == each.profile_id
    }
