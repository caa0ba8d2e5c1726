"""The API server is not there: a process says so, waits for it, and goes on."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from cdmo_harness.control_plane import free_port
from cdmo_harness.local_cluster import CDMO, base_environment

from cdmo.model.names import NAMESPACE
from tests.end_to_end.bed import SOON, Bed

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "{server}"}}}}]
users: [{{name: nobody, user: {{token: none}}}}]
contexts: [{{name: here, context: {{cluster: here, user: nobody}}}}]
current-context: here
"""


WAITS = "the API server does not answer"


def arguments_of(verb: str, host: Path) -> tuple[str, ...]:
    """The verb with what it cannot do without."""
    return (verb, "--node=gpu-1", f"--root={host}") if verb == "agent" else (verb,)


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`cdmo` with these arguments; it does not outlive the block."""
    process = await asyncio.create_subprocess_exec(
        str(CDMO),
        *arguments,
        env=base_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(*arguments: str) -> tuple[int, list[str]]:
    """The exit status of `cdmo` with these arguments and the lines it wrote on stderr that are no log lines."""
    async with started(*arguments) as process, asyncio.timeout(15):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [line for line in said.decode().splitlines() if not line.startswith("{")]


@pytest.fixture
def host() -> Iterator[Path]:
    """A host root with the little that an agent reads before it connects, at a path that is short enough for the
    kubelet's socket."""
    with tempfile.TemporaryDirectory(prefix="cdmo-") as folder:
        boot_id = Path(folder, "proc/sys/kernel/random/boot_id")
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("8f0d6f8e-52a1-4f0f-9d4c-3a1f6f0f8a11\n")
        yield Path(folder)


@pytest.mark.simulated_kubelet(reason="it needs no node")
@pytest.mark.parametrize("verb", ["agent", "controller"])
async def test_a_process_that_finds_no_api_server_says_so_once_and_waits(
    verb: str, host: Path, tmp_path: Path
) -> None:
    server = f"https://127.0.0.1:{free_port()}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(server=server))
    async with started(*arguments_of(verb, host), f"--kubeconfig={kubeconfig}") as process:
        assert process.stderr is not None
        said = []
        async with asyncio.timeout(15):
            while not said or "watch.broken" not in said[-1]:  # it has gone on to its work, which waits
                said.append((await process.stderr.readline()).decode())
                assert said[-1], f"it ended: {said}"
        (told,) = [json.loads(line) for line in said if WAITS in line]
        assert server in told["error"]
        assert "is the API server up" in told["hint"]
        process.terminate()
        async with asyncio.timeout(5):
            assert await process.wait() == 0


@pytest.mark.simulated_kubelet(reason="it needs no node")
@pytest.mark.parametrize("verb", ["agent", "controller"])
async def test_a_process_without_credentials_ends_with_an_error_and_a_hint(
    verb: str, host: Path, tmp_path: Path
) -> None:
    status, lines = await ended(*arguments_of(verb, host), f"--kubeconfig={tmp_path / 'none'}")
    assert status == 1
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], lines


@pytest.mark.simulated_kubelet(reason="it needs no node")
async def test_an_agent_that_does_not_find_the_host_ends_with_an_error_and_a_hint(tmp_path: Path) -> None:
    status, lines = await ended("agent", "--node=gpu-1", f"--root={tmp_path / 'none'}")
    assert status == 1
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], lines
    assert "boot_id" in lines[0]


@pytest.mark.cluster
@pytest.mark.timeout(120)
@pytest.mark.simulated_kubelet(reason="it is about the API server alone")
@pytest.mark.parametrize("verb", ["agent", "controller"])
async def test_a_process_whose_token_is_refused_ends_with_an_error_and_a_hint(
    verb: str, bed: Bed, host: Path, tmp_path: Path
) -> None:
    """No waiting would help."""
    right = bed.cluster.control_plane.service_account_kubeconfig(NAMESPACE, "cdmo-agent", node="gpu-1")
    content = yaml.safe_load(right.read_text())
    content["users"][0]["user"] = {"token": "none"}
    wrong = tmp_path / "kubeconfig"
    wrong.write_text(yaml.safe_dump(content))
    status, lines = await ended(*arguments_of(verb, host), f"--kubeconfig={wrong}")
    assert status == 1
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], lines
    assert "Unauthorized" in lines[0]


@pytest.mark.cluster
@pytest.mark.timeout(120)
async def test_when_the_api_server_restarts_everything_goes_on_where_it_was(bed: Bed) -> None:
    busy = await bed.running(await bed.submit("busy", "3g.40gb", node="gpu-1"))
    held = bed.slice_of(busy)
    await asyncio.to_thread(bed.cluster.control_plane.restart_api_server)
    processes = (*bed.cluster.agents.values(), *bed.cluster.controllers)
    await bed.running(await bed.submit("after", "4g.40gb", node="gpu-1"), limit=45.0)
    assert [each.name for each in processes if not each.running] == []
    assert bed.slice_of(busy) == held


@pytest.mark.cluster
@pytest.mark.timeout(120)
async def test_an_agent_that_was_started_while_the_api_server_was_away_works_when_it_is_back(bed: Bed) -> None:
    """Had it ended, its kubelet would have put off its next start, longer each time."""
    plane = bed.cluster.control_plane
    kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "cdmo-agent", node="gpu-1")
    bed.cluster.stop_agent("gpu-1", grace=5.0)
    await asyncio.to_thread(plane.stop_api_server, grace=0)
    try:
        bed.cluster.start_agent("gpu-1", kubeconfig=kubeconfig)
        agent = bed.cluster.agents["gpu-1"]
        await bed.view.wait("the agent waits", lambda: WAITS in agent.tail(50), limit=SOON)
    finally:
        await asyncio.to_thread(plane.start_api_server)
    await bed.running(await bed.submit("after", "4g.40gb", node="gpu-1"), limit=45.0)
    assert agent.running
