"""The API server is not there: a process that starts says so and ends, one that runs waits and goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cdmo_harness.control_plane import free_port
from cdmo_harness.local_cluster import CDMO, base_environment

from tests.end_to_end.bed import Bed

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "{server}"}}}}]
users: [{{name: nobody, user: {{token: none}}}}]
contexts: [{{name: here, context: {{cluster: here, user: nobody}}}}]
current-context: here
"""


def arguments_of(verb: str, host: Path) -> tuple[str, ...]:
    """The verb with what it cannot do without."""
    return (verb, "--node=gpu-1", f"--root={host}") if verb == "agent" else (verb,)


async def ended(*arguments: str) -> tuple[int, list[str]]:
    """The exit status of `cdmo` with these arguments and the lines it wrote on stderr that are no log lines."""
    process = await asyncio.create_subprocess_exec(
        str(CDMO),
        *arguments,
        env=base_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(15):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, [line for line in said.decode().splitlines() if not line.startswith("{")]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host root with the little that an agent reads before it connects."""
    boot_id = tmp_path / "host/proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("8f0d6f8e-52a1-4f0f-9d4c-3a1f6f0f8a11\n")
    return tmp_path / "host"


@pytest.mark.simulated_kubelet(reason="it needs no node")
@pytest.mark.parametrize("verb", ["agent", "controller"])
async def test_a_process_that_finds_no_api_server_ends_with_an_error_and_a_hint(
    verb: str, host: Path, tmp_path: Path
) -> None:
    server = f"https://127.0.0.1:{free_port()}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(server=server))
    status, lines = await ended(*arguments_of(verb, host), f"--kubeconfig={kubeconfig}")
    assert status == 1
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], lines
    assert server in lines[0]


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
async def test_when_the_api_server_restarts_everything_goes_on_where_it_was(bed: Bed) -> None:
    busy = await bed.running(await bed.submit("busy", "3g.40gb", node="gpu-1"))
    held = bed.slice_of(busy)
    await asyncio.to_thread(bed.cluster.control_plane.restart_api_server)
    processes = (*bed.cluster.agents.values(), *bed.cluster.controllers)
    await bed.running(await bed.submit("after", "4g.40gb", node="gpu-1"), limit=45.0)
    assert [each.name for each in processes if not each.running] == []
    assert bed.slice_of(busy) == held
