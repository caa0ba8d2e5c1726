"""Making NVIDIA's device plugin enumerate again without breaking the kubelet.

On SIGHUP the plugin ends all its servers and registers again under the same socket paths. A kubelet of version
1.37 that has not yet noticed the end of the old connections answers "device plugin already connected" and stays
broken for that resource until it is restarted, while it goes on listing the old devices as healthy. So the plugin
is held (SIGSTOP) over the gap: from the moment its sockets are gone until the kubelet lists none of its devices.
The guardian, a process of its own, stops it and lets it go on, also if this one dies; this one says for how long.

A stop can fall between the removal of the sockets and the end of their connections. Then the kubelet would wait for
ever, so the plugin is let go for a moment and stopped again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from cdmo.errors import KubeletUnavailable, PluginAbsent, PluginStuck
from cdmo.kubelet.guardian import Guardian, GuardianGone, PluginHold
from cdmo.kubelet.port import PodResources
from cdmo.kubelet.processes import HostProcess, ProcessTable
from cdmo.kubelet.sockets import PluginSockets, Sockets, resource_of, socket_of, without
from cdmo.model.names import is_mig_resource, whole_gpus
from cdmo.runtime.clock import Clock
from cdmo.runtime.pauses import growing

PLUGIN = "nvidia-device-plugin"
FEATURE_DISCOVERY = "gpu-feature-discovery"
DCGM_EXPORTER = "dcgm-exporter"

GUARDED_LONGER_SECONDS = 1.0  # than a reload may take: to end it is the agent's part
HOLD_SECONDS = 0.3  # then the guardian is told again
BLIND_HOLD_SECONDS = 0.04  # where it cannot be seen whether the connections have ended
LET_GO_SECONDS = 0.002
QUIET_SECONDS = 0.2
# A plugin that has been up for longer is taken to be past its first look at the GPUs: one that has nothing to serve
# has no sockets either, and would else be waited for in vain at the first cut of a fresh node.
YOUNG_SECONDS = 3.0
START_SECONDS = 1.5  # for which a young plugin without sockets is waited for
# Pauses between two looks grow: dense over the 100 ms or so that a reload takes, and rare when one takes long.
_FIRST_POLL_SECONDS = 0.005  # of the kubelet, which answers 100 calls a second
_POLL_GROWTH = 1.15
_FIRST_LOOK_SECONDS = 0.002  # at the sockets, which costs next to nothing
_LOOK_GROWTH = 1.05
_LAST_POLL_SECONDS = 0.02

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the kubelet is to list in the end."""

    devices: Mapping[str, frozenset[str]]
    doubtful: frozenset[str]  # of these, those that may be missing
    cut: frozenset[str]  # GPUs that it must not list as a whole

    def met_by(self, resource: str, listed: frozenset[str]) -> bool:
        wanted = self.devices.get(resource, frozenset())
        return wanted - self.doubtful <= listed <= wanted


class NvidiaDevicePlugin:
    """The plugin of this node, for as long as the `async with` lasts.

    `limit`: seconds from the signal until all is as expected. A plugin that was only just started is waited for
    before the signal, at most as long again and START_SECONDS.
    """

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

    async def reload(
        self, expected: Mapping[str, frozenset[str]], doubtful: frozenset[str], cut: frozenset[str]
    ) -> None:
        """Make the plugin enumerate again; returns when the kubelet lists exactly `expected`, with or without what is
        `doubtful`, and no GPU of `cut` as a whole. Raises PluginAbsent or PluginStuck."""
        wanted = {name: ids for name, ids in expected.items() if is_mig_resource(name) and ids}
        await self._ensure_guardian()
        with await asyncio.to_thread(self._the_plugin) as plugin:
            await self._until_it_listens(plugin)
            abandoned = await asyncio.to_thread(self._sockets.abandoned)
            before = await self._until_it_is_idle(plugin, abandoned)
            deadline = self._clock.monotonic() + self._limit
            async with self._holding(plugin, before, abandoned, deadline):
                _hang_up(plugin)
                await self._settle(plugin, _Wanted(wanted, doubtful, cut), before, abandoned, deadline)

    async def _until_it_listens(self, plugin: HostProcess) -> None:
        """SIGHUP ends a process that has no handler for it yet: one that has only just been started."""
        deadline = self._clock.monotonic() + self._limit
        while not self._processes.catches(plugin, signal.SIGHUP):
            if self._clock.monotonic() >= deadline:
                raise PluginStuck(
                    f"the device plugin (process {plugin.pid}) does not handle SIGHUP, {self._limit:g} s long",
                    hint="look at the device plugin's log: does it start at all?",
                )
            await self._clock.sleep(_LAST_POLL_SECONDS)

    async def _until_it_is_idle(self, plugin: HostProcess, abandoned: Sockets) -> Sockets:
        """Its sockets, once the kubelet lists all of them; or after a while, for devices can be unhealthy.

        A signal in the middle of a start is taken up right after it, when the kubelet may not have listed anything
        yet: then "lists nothing" would not mean that the connections have ended.
        """
        deadline = self._clock.monotonic() + START_SECONDS
        while True:
            sockets = without(self._sockets.all(), abandoned)
            try:
                listed = frozenset(await self._pods.allocatable())
            except KubeletUnavailable:
                listed = frozenset()
            idle = (
                listed >= set(map(resource_of, sockets)) if sockets else self._processes.age(plugin) > YOUNG_SECONDS
            )
            if idle or self._clock.monotonic() >= deadline:
                return sockets
            await self._clock.sleep(_LAST_POLL_SECONDS)

    async def _ensure_guardian(self) -> None:
        if not self._guardian.alive:
            logger.warning("the guardian of the device plugin ended; starting another")
            await asyncio.to_thread(self._guardian.start)

    def _the_plugin(self) -> HostProcess:
        found = self._processes.find(PLUGIN)
        if len(found) > 1:  # a user's job may have taken the name
            found = self._only_privileged(found)
        if len(found) == 1:
            return found[0]
        for each in found:
            with each:
                pass
        if not found:
            raise PluginAbsent(
                f"no process {PLUGIN} runs on this node",
                hint="look at the device plugin's DaemonSet and pod; the agent needs hostPID to see its process",
            )
        pids = ", ".join(str(each.pid) for each in found)
        raise PluginStuck(
            f"more than one {PLUGIN} runs on this node: processes {pids}",
            hint="keep one of them: the gpu-operator's, or the one installed by its own chart",
        )

    def _only_privileged(self, found: tuple[HostProcess, ...]) -> tuple[HostProcess, ...]:
        """Those that can be NVIDIA's, or all if none can; closes the others."""
        kept = tuple(each for each in found if self._processes.is_privileged(each)) or found
        for each in found:
            if each not in kept:
                with each:
                    logger.warning("a process calls itself the device plugin without its rights", pid=each.pid)
        return kept

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

    @asynccontextmanager
    async def _holding(
        self, plugin: HostProcess, before: Sockets, abandoned: Sockets, deadline: float
    ) -> AsyncIterator[None]:
        """Inside the block the plugin is held over every gap. Raises PluginStuck if nobody is there to hold it."""
        seconds = self._limit + GUARDED_LONGER_SECONDS
        try:
            async with self._guardian.watch(
                plugin, self._sockets.folder, frozenset(before), abandoned, seconds=seconds
            ) as hold:
                holder = asyncio.create_task(self._hold_over_gaps(hold, deadline), name="device plugin hold")
                try:
                    yield
                finally:
                    holder.cancel()
                    await asyncio.wait([holder])
        except GuardianGone as error:
            await asyncio.to_thread(self._guardian.kill)
            raise PluginStuck(
                "the process that holds the device plugin over a restart does not answer; the plugin was left alone",
                hint="another is started for the next try; is this node out of memory or of process ids?",
            ) from error

    async def _hold_over_gaps(self, hold: PluginHold, deadline: float) -> None:
        try:
            while True:
                names = await hold.stopped()
                await self._hold_until_unlisted(hold, names, deadline)
        except GuardianGone:
            hold.plugin.signal(signal.SIGCONT)
            logger.warning("the guardian is gone: the device plugin is not held over its restart")

    async def _hold_until_unlisted(self, hold: PluginHold, names: frozenset[str], deadline: float) -> None:
        """The plugin is stopped, maybe too early: the kubelet only notices connections that have ended."""
        served = {resource_of(name) for name in names}
        while True:
            connections = self._processes.unix_connections(hold.plugin)
            ended = connections is not None and not connections & names
            limit = BLIND_HOLD_SECONDS if connections is None else HOLD_SECONDS if ended else 0.0
            noticed = bool(limit) and await self._none_listed(served, limit)
            late = self._clock.monotonic() >= deadline
            if noticed or late:
                hold.go_on()
            elif await (hold.stop() if ended else hold.let_go(LET_GO_SECONDS)):
                continue
            if not noticed:
                logger.warning("the device plugin goes on, but the kubelet still lists it", resources=sorted(served))
            return

    async def _none_listed(self, served: set[str], limit: float) -> bool:
        """Whether the kubelet lists nothing of the old connections, within the seconds of one hold."""
        pauses = growing(_FIRST_POLL_SECONDS, _POLL_GROWTH, _LAST_POLL_SECONDS)
        try:
            async with asyncio.timeout(limit):
                while served & (await self._pods.allocatable()).keys():
                    await self._clock.sleep(next(pauses))
        except (TimeoutError, KubeletUnavailable):
            return False
        return True

    # ---- what comes after ----------------------------------------------------------------------------------

    async def _settle(
        self,
        plugin: HostProcess,
        wanted: _Wanted,
        before: Sockets,
        abandoned: Sockets,
        deadline: float,
    ) -> None:
        """Wait for all to be as wanted: the sockets first, then what the kubelet lists.

        Where the plugin served nothing before, it may have been in its first start, after which it takes up the
        signal: then what is right must stay so for a while.
        """
        looks = growing(_FIRST_LOOK_SECONDS, _LOOK_GROWTH, _LAST_POLL_SECONDS)
        polls = growing(_FIRST_POLL_SECONDS, _POLL_GROWTH, _LAST_POLL_SECONDS)
        right_since, right = self._clock.monotonic(), None
        while True:
            now, sockets = self._clock.monotonic(), self._sockets.all()
            differences, pauses = _of_sockets(sockets, wanted, before, abandoned), looks
            if not differences:
                differences, pauses = await self._of_devices(wanted), polls
            if differences or sockets != right:
                right_since, right = now, sockets
            if not differences and (before or now - right_since >= QUIET_SECONDS):
                return
            if differences and now >= deadline:
                raise self._stuck(plugin, differences)
            await self._clock.sleep(next(pauses))

    async def _of_devices(self, wanted: _Wanted) -> list[str]:
        """What the kubelet does not list yet, or still lists, a phrase each."""
        try:
            listed = await self._pods.allocatable()
        except KubeletUnavailable as error:
            return [str(error)]
        found = {name: ids for name, ids in listed.items() if is_mig_resource(name)}
        counts = [
            f"{name}: the kubelet lists {_ids(found.get(name))}, the GPUs have {_ids(wanted.devices.get(name))}"
            for name in sorted(found.keys() | wanted.devices.keys())
            if not wanted.met_by(name, found.get(name, frozenset()))
        ]
        whole = [
            f"the kubelet lists {each} as a whole, MIG is on" for each in sorted(whole_gpus(listed) & wanted.cut)
        ]
        return [*counts, *whole]

    def _stuck(self, plugin: HostProcess, differences: list[str]) -> PluginStuck:
        hint = "look at the device plugin's log; if it says `already connected`, restart the kubelet of this node"
        if plugin.ended():
            hint = "the device plugin ended while it looked at the GPUs; look at its log"
        text = "; ".join(differences[:4]) + ("; …" if len(differences) > 4 else "")
        return PluginStuck(f"the device plugin did not come back within {self._limit:g} s: {text}", hint=hint)


def _of_sockets(sockets: Sockets, wanted: _Wanted, before: Sockets, abandoned: Sockets) -> list[str]:
    """Which sockets are still there or not there yet, a phrase each."""
    if old := before.keys() - without(before, sockets).keys():
        return [f"the old socket {min(old)} is still there"]
    fresh = without(sockets, abandoned)
    return [f"no socket {name}" for name in sorted(map(socket_of, wanted.devices)) if name not in fresh]


def _hang_up(plugin: HostProcess) -> None:
    try:
        plugin.signal(signal.SIGHUP)
    except PermissionError as error:
        raise PluginStuck(
            f"the device plugin (process {plugin.pid}) cannot be signalled: {error}",
            hint="the agent needs hostPID and must run privileged",
        ) from error


def _ids(ids: frozenset[str] | None) -> str:
    return f"{len(ids)} ({', '.join(sorted(ids)[:2])}{', …' if len(ids) > 2 else ''})" if ids else "none"
