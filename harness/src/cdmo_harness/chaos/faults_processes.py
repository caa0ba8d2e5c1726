"""Faults of CDMO's own processes and of the control plane they talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from cdmo_harness.chaos.schedule import FaultKind, Planned, Where
from cdmo_harness.chaos.stage import Stage, until
from cdmo_harness.control_plane import SERVING, ControlPlane
from cdmo_harness.threads import to_the_end

# Seconds by which a wall clock is set: a nudge of NTP, a lost hour, a dead battery.
_STEPS = (-86_400.0, -3600.0, -5.0, 5.0, 3600.0, 86_400.0 * 400)
_FENCE_LIMIT = 20.0
_LONGEST_INTO_A_CHANGE = 0.6  # seconds; a change takes about as long


@asynccontextmanager
async def agent_killed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGKILL, and nobody there for a while."""
    async with _down(stage, f"agent-{fault.target}"):
        yield


@asynccontextmanager
async def agent_killed_in_a_change(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGKILL at some moment while its fence is up."""
    await until(lambda: stage.fenced(fault.target), limit=_FENCE_LIMIT, pause=0.01)
    await asyncio.sleep(Random(fault.seed).uniform(0.0, _LONGEST_INTO_A_CHANGE))
    async with _down(stage, f"agent-{fault.target}"):
        yield


@asynccontextmanager
async def agent_paused(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGSTOP: alive, and does nothing."""
    async with _paused(stage, f"agent-{fault.target}"):
        yield


@asynccontextmanager
async def controller_killed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGKILL."""
    async with _down(stage, fault.target):
        yield


@asynccontextmanager
async def controller_paused(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGSTOP past its Lease: when it goes on it takes itself for the leader for a moment, beside the new one."""
    async with _paused(stage, fault.target):
        yield


@asynccontextmanager
async def clock_stepped(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Somebody sets the wall clock of all of CDMO's machines, and later sets it right."""
    await asyncio.to_thread(_write, stage.clock_file, f"{Random(fault.seed).choice(_STEPS)}")
    try:
        yield
    finally:
        await asyncio.to_thread(_write, stage.clock_file, "0")


@asynccontextmanager
async def disk_full(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """The journal cannot be written."""
    full = stage.disk_full(fault.target)
    await asyncio.to_thread(full.touch)
    try:
        yield
    finally:
        await asyncio.to_thread(full.unlink, missing_ok=True)


@asynccontextmanager
async def api_server_killed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGKILL; all watches break."""
    async with stage.losing_answers(fault.kind), _api_server_away(stage.cluster.control_plane, grace=0.0):
        yield


@asynccontextmanager
async def api_server_restarted(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """An orderly end: requests under way are answered, watches are ended."""
    async with _api_server_away(stage.cluster.control_plane, grace=5.0):
        yield


@asynccontextmanager
async def etcd_killed(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """SIGKILL: the API server stays and answers with errors."""
    plane = stage.cluster.control_plane
    async with stage.losing_answers(fault.kind):
        await to_the_end(lambda: plane.stop_etcd(grace=0.0))
        try:
            yield
        finally:
            await to_the_end(plane.start_etcd)


@asynccontextmanager
async def _down(stage: Stage, role: str) -> AsyncIterator[None]:
    await stage.supervisor.kill(role)
    try:
        yield
    finally:
        await stage.supervisor.bring_back(role)


@asynccontextmanager
async def _paused(stage: Stage, role: str) -> AsyncIterator[None]:
    stage.supervisor.pause(role)
    try:
        yield
    finally:
        stage.supervisor.resume(role)


@asynccontextmanager
async def _api_server_away(plane: ControlPlane, *, grace: float) -> AsyncIterator[None]:
    await to_the_end(lambda: plane.stop_api_server(grace=grace))
    try:
        yield
    finally:
        await to_the_end(lambda: plane.start_api_server(sign=SERVING))


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


_AGENT = ("agent/{}",)
_CONTROLLER = ("controller/{}",)
_CONTROL_PLANE = ("control plane",)

PROCESSES = (
    FaultKind("agent killed", agent_killed, Where.NODE, (0.1, 4.0), _AGENT, weight=3),
    FaultKind("agent killed in a change", agent_killed_in_a_change, Where.NODE, (0.1, 2.0), _AGENT, weight=4),
    FaultKind("agent paused", agent_paused, Where.NODE, (1.0, 8.0), _AGENT, weight=2),
    FaultKind("agent silent", agent_paused, Where.NODE, (48.0, 55.0), _AGENT),  # a node counts as silent after 45 s
    FaultKind("controller killed", controller_killed, Where.CONTROLLER, (0.1, 4.0), _CONTROLLER, weight=2),
    FaultKind("controller paused", controller_paused, Where.CONTROLLER, (16.0, 22.0), _CONTROLLER),  # Lease: 15 s
    FaultKind("clock stepped", clock_stepped, Where.CLUSTER, (1.0, 10.0), ("clock",)),
    FaultKind("disk full", disk_full, Where.NODE, (2.0, 6.0), ("disk/{}",)),
    FaultKind("API server killed", api_server_killed, Where.CLUSTER, (0.1, 3.0), _CONTROL_PLANE),
    FaultKind("API server restarted", api_server_restarted, Where.CLUSTER, (0.1, 1.0), _CONTROL_PLANE),
    FaultKind("etcd killed", etcd_killed, Where.CLUSTER, (0.1, 3.0), _CONTROL_PLANE),
)
