"""The agent is killed in the middle of a change, at every line that matters, and the next one finishes it.

The change destroys one idle slice and creates three, beside a slice on which a pod runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass

import pytest
from cdmo_harness.crashing_agent import CRASH_AT
from cdmo_harness.driver import SliceSnapshot
from cdmo_harness.observer import PodSight
from cdmo_harness.processes import ManagedProcess

from cdmo.agent.change import Phase
from cdmo.agent.main import journal_path
from cdmo.model.cluster import carries_fence
from cdmo.runtime.hostpaths import HostPaths
from tests.end_to_end.bed import SOON, Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

NODE = "gpu-3"
WANTED = {(0, 14, start) for start in range(4)}

# What the simulated driver is doing when the agent is killed.
CALLS = {
    "nvmlComputeInstanceDestroy": "before the first step",
    "nvmlGpuInstanceDestroy": "between the end of the compute instance and that of its GPU instance",
    "nvmlDeviceCreateGpuInstanceWithPlacement": "between destroy and create",
    "nvmlGpuInstanceCreateComputeInstance": "between a GPU instance and its compute instance",
}


@dataclass(frozen=True, slots=True)
class Busy:
    """The pod whose slice must survive, and the slice as it was before."""

    pod: PodSight
    slice: SliceSnapshot


async def arrange(bed: Bed) -> Busy:
    """A slice in use at slot 0, an idle one where others are about to be wanted."""
    await bed.lay_out(NODE, [(14, 0), (5, 2)])
    pod = await bed.running(await bed.submit("busy", "1g.6gb", node=NODE))
    return Busy(pod, bed.slice_of(pod))


def start_agent_that_dies(bed: Bed, phase: Phase) -> ManagedProcess:
    """In place of the node's agent, which must not run."""
    command = [sys.executable, "-m", "cdmo_harness.crashing_agent"]
    bed.cluster.start_agent(NODE, command=command, environment={CRASH_AT: phase})
    return bed.cluster.agents[NODE]


async def killed(bed: Bed, agent: ManagedProcess) -> None:
    """Return when the agent has died of its SIGKILL."""
    await bed.view.wait("the agent dies", lambda: agent.exit_status is not None, limit=SOON)
    assert agent.exit_status == -signal.SIGKILL, agent.tail(20)
    bed.cluster.stop_agent(NODE, grace=0)


async def check_finished(bed: Bed, busy: Busy) -> None:
    """The next agent brings about what was wanted, with nothing left over and nothing lost."""
    await bed.running("default/wide", limit=30.0)
    await bed.view.wait("the node is at rest", lambda: bed.settled(NODE), limit=SOON)
    assert bed.slices(NODE).keys() == WANTED
    assert all(each.full_width for each in bed.slices(NODE).values())
    assert not carries_fence(bed.view.nodes[NODE])
    assert not journal_path(HostPaths(bed.cluster.nodes[NODE].root)).exists()
    assert busy.pod.phase == "Running"
    assert bed.slice_of(busy.pod) == busy.slice
    bed.check_unharmed()


@pytest.mark.simulated_kubelet(reason="a real kubelet gets the phases in turn, in one test")
@pytest.mark.parametrize("phase", list(Phase), ids=str)
async def test_a_change_cut_short_by_a_kill_is_finished_by_the_next_agent(phase: Phase, bed: Bed) -> None:
    busy = await arrange(bed)
    await asyncio.to_thread(bed.cluster.stop_agent, NODE)
    agent = await asyncio.to_thread(start_agent_that_dies, bed, phase)
    await bed.submit("wide", "1g.6gb", 3, node=NODE)
    await killed(bed, agent)
    await bed.view.wait(
        "the fence stands as it was left",
        lambda: carries_fence(bed.view.nodes[NODE]) == (phase != "fence"),
        limit=SOON,
    )
    assert bed.view.pods["default/wide"].phase == "Pending"
    assert bed.slice_of(busy.pod) == busy.slice

    await asyncio.to_thread(bed.cluster.start_agent, NODE)
    await check_finished(bed, busy)


@pytest.mark.simulated_kubelet(reason="it is between the agent and the driver alone")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: CALLS[call].replace(" ", "-"))
async def test_an_agent_killed_inside_the_driver_leaves_nothing_half_made(call: str, bed: Bed) -> None:
    busy = await arrange(bed)
    driver, agent = bed.cluster.nodes[NODE].driver, bed.cluster.agents[NODE]
    driver.hang(call)
    try:
        await bed.submit("wide", "1g.6gb", 3, node=NODE)
        await bed.view.wait(f"the agent is in {call}", lambda: driver.hung_calls(call) == 1, limit=SOON)
        os.kill(agent.pid, signal.SIGKILL)
        await killed(bed, agent)
    finally:
        driver.release(call)
    assert carries_fence(bed.view.nodes[NODE])
    assert bed.slice_of(busy.pod) == busy.slice

    await asyncio.to_thread(bed.cluster.start_agent, NODE)
    await check_finished(bed, busy)


async def test_an_agent_that_is_killed_in_each_phase_in_turn_still_gets_there(bed: Bed) -> None:
    busy = await arrange(bed)
    await asyncio.to_thread(bed.cluster.stop_agent, NODE)
    await bed.submit("wide", "1g.6gb", 3, node=NODE)
    for phase in Phase:
        await killed(bed, await asyncio.to_thread(start_agent_that_dies, bed, phase))
        assert bed.slice_of(busy.pod) == busy.slice
    await asyncio.to_thread(bed.cluster.start_agent, NODE)
    await check_finished(bed, busy)
