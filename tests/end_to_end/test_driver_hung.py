"""A driver call never returns: the agent says so, its heart goes on beating, and it goes on when the driver does."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from cdmo_harness.control_plane import free_port
from cdmo_harness.local_cluster import CDMO
from cdmo_harness.processes import ManagedProcess

from cdmo.agent.main import journal_path
from cdmo.model.cluster import carries_fence
from cdmo.runtime.hostpaths import HostPaths
from tests.end_to_end.bed import SOON, Bed

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(180),
    pytest.mark.simulated_kubelet(reason="it is between the agent and the driver alone"),
]

NODE = "gpu-3"
LONG = 60.0  # seconds: two heartbeats, of one in ten seconds, on a busy machine
READING = "nvmlSystemGetDriverVersion"  # of all programs on the node the agent alone asks
CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
DESTROY = "nvmlGpuInstanceDestroy"


@dataclass(frozen=True)
class Served:
    """An agent that gives up driver calls early, and what it serves."""

    process: ManagedProcess
    port: int

    async def get(self, path: str, *, limit: float = SOON) -> tuple[int, str]:
        """Status and body; raises OSError when there is no answer in time."""
        return await asyncio.to_thread(self._get, path, limit)

    def _get(self, path: str, limit: float) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=limit) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    async def metric(self, name: str) -> float:
        """A metric without labels."""
        _, text = await self.get("/metrics")
        (line,) = [each for each in text.splitlines() if each.startswith(f"{name} ")]
        return float(line.split()[1])


@pytest.fixture
async def agent(bed: Bed) -> AsyncIterator[Served]:
    """In place of the node's agent."""
    port = free_port()
    command = (str(CDMO), "agent", "--driver-read-limit=2", "--driver-change-limit=2", f"--listen=127.0.0.1:{port}")
    await asyncio.to_thread(bed.cluster.stop_agent, NODE)
    await asyncio.to_thread(bed.cluster.start_agent, NODE, command=command)
    driver = bed.cluster.nodes[NODE].driver
    served = Served(bed.cluster.agents[NODE], port)
    try:
        await bed.view.wait("the agent serves", lambda: reachable(port), limit=SOON)
        yield served
    finally:
        for each in (READING, CREATE, DESTROY):
            driver.release(each)
        await asyncio.to_thread(bed.cluster.stop_agent, NODE)
        await asyncio.to_thread(bed.cluster.start_agent, NODE)


def reachable(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1.0):
            return True
    except OSError:
        return False


def heartbeat(bed: Bed) -> str:
    found = bed.view.mignodes[NODE].status.agent
    return found.heartbeat if found else ""


async def beats_twice(bed: Bed) -> None:
    """Return when the heart has beaten twice from now on."""
    for _ in range(2):
        before = heartbeat(bed)
        await bed.view.wait("the heart beats", lambda before=before: heartbeat(bed) != before, limit=LONG)


def reason(bed: Bed) -> str:
    return bed.condition(NODE).reason


async def test_a_reading_that_hangs_is_reported_while_the_heart_beats_and_the_agent_is_alive(
    agent: Served, bed: Bed
) -> None:
    driver = bed.cluster.nodes[NODE].driver
    driver.hang(READING)
    await bed.view.wait("the hung driver is reported", lambda: reason(bed) == "DriverHung", limit=LONG)
    assert bed.condition(NODE).status == "False"
    assert "reboot the node" in bed.condition(NODE).message
    await beats_twice(bed)
    assert driver.hung_calls(READING) == 1
    assert (await agent.get("/livez"))[0] == 200
    status, said = await agent.get("/readyz")
    assert (status, "the driver hangs" in said) == (503, True)
    assert await agent.metric("cdmo_agent_hung_call_seconds") > 2.0
    assert await agent.metric("cdmo_agent_hung_calls_total") == 1.0
    assert not carries_fence(bed.view.nodes[NODE])

    driver.release(READING)
    await bed.view.wait("the node is ready again", lambda: bed.condition(NODE).status == "True", limit=LONG)
    await bed.running(await bed.submit("after", "1g.6gb", node=NODE), limit=LONG)
    assert (await agent.get("/readyz"))[0] == 200


@pytest.mark.parametrize("call", [CREATE, DESTROY])
async def test_a_step_that_hangs_keeps_the_fence_until_the_driver_answers_and_the_change_is_then_ended(
    call: str, agent: Served, bed: Bed
) -> None:
    await bed.lay_out(NODE, [(14, 0), (5, 2)])
    busy = await bed.running(await bed.submit("busy", "1g.6gb", node=NODE))
    held = bed.slice_of(busy)
    driver = bed.cluster.nodes[NODE].driver
    driver.hang(call)
    await bed.submit("wide", "1g.6gb", 3, node=NODE)
    await bed.view.wait("the hung driver is reported", lambda: reason(bed) == "DriverHung", limit=LONG)
    await beats_twice(bed)
    # Nobody knows what the driver did: the node stays closed, nothing more is asked of the driver.
    assert carries_fence(bed.view.nodes[NODE])
    assert journal_path(HostPaths(bed.cluster.nodes[NODE].root)).exists()
    assert driver.hung_calls(call) == 1
    assert bed.view.pods["default/wide"].phase == "Pending"
    assert (await agent.get("/livez"))[0] == 200
    assert bed.slice_of(busy) == held

    driver.release(call)
    await bed.running("default/wide", limit=LONG)
    await bed.view.wait("the node is at rest", lambda: bed.settled(NODE), limit=LONG)
    assert not journal_path(HostPaths(bed.cluster.nodes[NODE].root)).exists()
    assert bed.slice_of(busy) == held
    bed.check_unharmed()


async def test_an_agent_that_stands_still_does_not_look_alive(agent: Served, bed: Bed) -> None:
    assert (await agent.get("/livez"))[0] == 200
    agent.process.pause()
    try:
        with pytest.raises(OSError):
            await agent.get("/livez", limit=1.0)
    finally:
        agent.process.resume()
    assert (await agent.get("/livez"))[0] == 200


async def test_an_agent_with_a_hung_driver_ends_when_it_is_told_to(agent: Served, bed: Bed) -> None:
    driver = bed.cluster.nodes[NODE].driver
    driver.hang(READING)
    await bed.view.wait("the hung driver is reported", lambda: reason(bed) == "DriverHung", limit=LONG)
    await asyncio.to_thread(agent.process.stop, grace=20.0)
    assert agent.process.exit_status == 0, agent.process.tail(20)


def tokens(bed: Bed) -> tuple[str, str]:
    """Tokens of two accounts: of one that may read metrics, and of one that may not."""
    plane = bed.cluster.control_plane
    for name in ("prometheus", "stranger"):
        plane.kubectl("create", "serviceaccount", name)
    plane.kubectl(
        "create", "clusterrolebinding", "prometheus", "--clusterrole=cdmo-metrics-reader",
        "--serviceaccount=default:prometheus",
    )  # fmt: skip
    reader, stranger = (plane.kubectl("create", "token", name).strip() for name in ("prometheus", "stranger"))
    return reader, stranger


async def test_a_controller_serves_too_and_off_loopback_only_to_tokens(bed: Bed) -> None:
    port = free_port()
    process = await asyncio.to_thread(bed.cluster.start_controller, f"--listen=0.0.0.0:{port}")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def get(path: str, token: str = "") -> tuple[int, str]:
        request = urllib.request.Request(f"https://127.0.0.1:{port}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=SOON, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    try:
        await bed.view.wait("the controller serves", lambda: get("/readyz")[0] == 200, limit=LONG)
        assert await asyncio.to_thread(get, "/livez") == (200, "ok\n")
        assert (await asyncio.to_thread(get, "/metrics"))[0] == 401
        assert (await asyncio.to_thread(get, "/metrics", "made-up"))[0] == 401
        reader, stranger = await asyncio.to_thread(tokens, bed)
        assert (await asyncio.to_thread(get, "/metrics", stranger))[0] == 403
        status, text = await asyncio.to_thread(get, "/metrics", reader)
        assert (status, "cdmo_controller_leader" in text) == (200, True)
    finally:
        bed.cluster.controllers.remove(process)
        await asyncio.to_thread(process.stop, grace=5.0)
