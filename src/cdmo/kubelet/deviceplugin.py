"""Making NVIDIA's device plugin enumerate again without breaking the kubelet.

On SIGHUP the plugin ends all its servers and registers again under the same socket paths. A kubelet of version
1.37 that has not yet noticed the end of the old connections answers "device plugin already connected" and stays
broken for that resource until it is restarted, while it goes on listing the old devices as healthy. So the plugin
is held (SIGSTOP) over the gap: from the moment its sockets are gone until the kubelet lists none of its devices.

A hold that falls between the removal of the sockets and the end of their connections would wait for ever, so a hold
is short, and repeated after letting go for a moment. A guardian process lets the plugin go on if this one dies.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from cdmo.errors import KubeletUnavailable, PluginStuck
from cdmo.kubelet.guardian import Guardian
from cdmo.kubelet.hold import PluginHold
from cdmo.kubelet.port import PodResources
from cdmo.kubelet.processes import HostProcess, ProcessTable
from cdmo.kubelet.sockets import PluginSockets, Sockets, resource_of, socket_of, without
from cdmo.model.names import is_mig_resource
from cdmo.runtime.clock import Clock

PLUGIN = "nvidia-device-plugin"
FEATURE_DISCOVERY = "gpu-feature-discovery"
DCGM_EXPORTER = "dcgm-exporter"

HOLD_SECONDS = 0.04
LET_GO_SECONDS = 0.002
_FIRST_POLL_SECONDS = 0.005  # of the kubelet, growing: it answers 100 calls a second
_LAST_POLL_SECONDS = 0.02
_POLL_GROWTH = 1.4

logger = structlog.get_logger(__name__)


class NvidiaDevicePlugin:
    """The plugin of this node, for as long as the `async with` lasts. `limit`: seconds for a whole reload."""

    def __init__(
        self, *, processes: ProcessTable, sockets: Path, pods: PodResources, clock: Clock, limit: float = 3.0
    ) -> None:
        self._processes = processes
        self._sockets = PluginSockets(sockets)
        self._pods = pods
        self._clock = clock
        self._limit = limit
        self._guardian = Guardian()

    async def __aenter__(self) -> Self:
        """An agent that was killed together with its guardian may have left the plugin stopped: let it go on."""
        await asyncio.to_thread(self._guardian.start)
        await asyncio.to_thread(self._signal_all, PLUGIN, signal.SIGCONT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._guardian.close)

    @property
    def guardian_pid(self) -> int:
        """The process that lets the plugin go on should this one die."""
        return self._guardian.pid

    def running(self) -> bool:
        """Whether there is a plugin process; one that still waits for the driver enumerates by itself later."""
        found = self._processes.find(PLUGIN)
        for each in found:
            with each:
                pass
        return bool(found)

    async def nudge(self, program: str) -> int:
        """Make another program look again (SIGHUP): gpu-feature-discovery, dcgm-exporter. Returns how many run."""
        return await asyncio.to_thread(self._signal_all, program, signal.SIGHUP)

    async def reload(self, expected: Mapping[str, frozenset[str]]) -> None:
        """Make the plugin enumerate again; returns when the kubelet lists exactly `expected`. Raises PluginStuck."""
        wanted = {name: ids for name, ids in expected.items() if is_mig_resource(name) and ids}
        await self._ensure_guardian()
        deadline = self._clock.monotonic() + self._limit
        with await asyncio.to_thread(self._the_plugin) as plugin:
            await self._until_it_listens(plugin, deadline)
            abandoned = await asyncio.to_thread(self._sockets.abandoned)
            before = without(self._sockets.all(), abandoned)
            hold = PluginHold(plugin, self._sockets, abandoned, self._guardian)
            if _hang_up(plugin) and before:
                await self._hold_over_gap(hold, before, deadline)
            await self._settle(plugin, wanted, before, abandoned, deadline)

    async def _until_it_listens(self, plugin: HostProcess, deadline: float) -> None:
        """SIGHUP ends a process that has no handler for it yet: one that has only just been started."""
        while not self._processes.catches(plugin, signal.SIGHUP):
            if self._clock.monotonic() >= deadline:
                raise PluginStuck(
                    f"the device plugin (process {plugin.pid}) does not handle SIGHUP, {self._limit:g} s long",
                    hint="look at the device plugin's log: does it start at all?",
                )
            await self._clock.sleep(_LAST_POLL_SECONDS)

    async def _ensure_guardian(self) -> None:
        if not self._guardian.alive:
            logger.warning("the guardian of the device plugin ended; starting another")
            await asyncio.to_thread(self._guardian.start)

    def _the_plugin(self) -> HostProcess:
        found = self._processes.find(PLUGIN)
        if len(found) == 1:
            return found[0]
        for each in found:
            with each:
                pass
        if not found:
            raise PluginStuck(
                f"no process {PLUGIN} runs on this node",
                hint="look at the device plugin's DaemonSet and pod; the agent needs hostPID to see its process",
            )
        pids = ", ".join(str(each.pid) for each in found)
        raise PluginStuck(
            f"more than one {PLUGIN} runs on this node: processes {pids}",
            hint="keep one of them: the gpu-operator's, or the one installed by its own chart",
        )

    def _signal_all(self, program: str, number: signal.Signals) -> int:
        count = 0
        for process in self._processes.find(program):
            with process:
                try:
                    count += process.signal(number)
                except PermissionError as error:
                    logger.warning(
                        "a process cannot be signalled", program=program, pid=process.pid, error=str(error)
                    )
        return count

    # ---- the gap -------------------------------------------------------------------------------------------

    async def _hold_over_gap(self, hold: PluginHold, before: Sockets, deadline: float) -> None:
        served = {resource_of(name) for name in before}
        holds = 0
        try:
            held = await asyncio.to_thread(hold.stop_in_gap, before, lambda: self._clock.monotonic() >= deadline)
            while held:
                holds += 1
                if await self._none_listed(served):
                    break
                hold.go_on()
                await self._clock.sleep(LET_GO_SECONDS)
                held = self._clock.monotonic() < deadline and hold.stop()
        finally:
            hold.end()
        logger.debug("device plugin held over the gap", holds=holds, until_unlisted=held)

    async def _none_listed(self, served: set[str]) -> bool:
        """Whether the kubelet lists nothing of the old connections, within one hold."""
        pause = _FIRST_POLL_SECONDS
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                while served & (await self._pods.allocatable()).keys():
                    await self._clock.sleep(pause)
                    pause = min(pause * _POLL_GROWTH, _LAST_POLL_SECONDS)
        except (TimeoutError, KubeletUnavailable):
            return False
        return True

    # ---- what comes after ----------------------------------------------------------------------------------

    async def _settle(
        self,
        plugin: HostProcess,
        wanted: Mapping[str, frozenset[str]],
        before: Sockets,
        abandoned: Sockets,
        deadline: float,
    ) -> None:
        pause = _FIRST_POLL_SECONDS
        while True:
            differences = await self._differences(wanted, before, abandoned)
            if not differences:
                return
            if self._clock.monotonic() >= deadline:
                raise self._stuck(plugin, differences)
            await self._clock.sleep(pause)
            pause = min(pause * _POLL_GROWTH, _LAST_POLL_SECONDS)

    async def _differences(
        self, wanted: Mapping[str, frozenset[str]], before: Sockets, abandoned: Sockets
    ) -> list[str]:
        """What the kubelet and the sockets do not show yet, a phrase each."""
        sockets = self._sockets.all()
        if old := before.keys() - without(before, sockets).keys():
            return [f"the old socket {min(old)} is still there"]
        fresh = without(sockets, abandoned)
        missing = [f"no socket {name}" for name in sorted(map(socket_of, wanted)) if name not in fresh]
        try:
            listed = await self._pods.allocatable()
        except KubeletUnavailable as error:
            return [*missing, str(error)]
        found = {name: ids for name, ids in listed.items() if is_mig_resource(name)}
        counts = [
            f"{name}: the kubelet lists {_ids(found.get(name))}, the GPUs have {_ids(wanted.get(name))}"
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name) != wanted.get(name)
        ]
        return [*missing, *counts]

    def _stuck(self, plugin: HostProcess, differences: list[str]) -> PluginStuck:
        alive = plugin.signal(signal.SIGCONT)
        hint = "look at the device plugin's log; if it says `already connected`, restart the kubelet of this node"
        if not alive:
            hint = "the device plugin ended while it looked at the GPUs; look at its log"
        text = "; ".join(differences[:4]) + ("; …" if len(differences) > 4 else "")
        return PluginStuck(f"the device plugin did not come back within {self._limit:g} s: {text}", hint=hint)


def _hang_up(plugin: HostProcess) -> bool:
    try:
        return plugin.signal(signal.SIGHUP)
    except PermissionError as error:
        raise PluginStuck(
            f"the device plugin (process {plugin.pid}) cannot be signalled: {error}",
            hint="the agent needs hostPID and must run privileged",
        ) from error


def _ids(ids: frozenset[str] | None) -> str:
    return f"{len(ids)} ({', '.join(sorted(ids)[:2])}{', …' if len(ids) > 2 else ''})" if ids else "none"
