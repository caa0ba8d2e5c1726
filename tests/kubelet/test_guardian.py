"""The guardian stops the device plugin in its gap, and whatever happens to the agent, the plugin goes on."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from cdmo.kubelet.guardian import Guardian, GuardianGone, PluginHold
from cdmo.kubelet.guardian_program import LONGEST_HOLD
from cdmo.kubelet.processes import HostProcess
from cdmo.kubelet.sockets import PluginSockets
from tests.kubelet.plugins import ONE_SOCKET, THREE_SOCKET, NodeFolder, kill

AGENT = Path(__file__).with_name("holding_agent.py")
GAP = ("--gap", "0.02")  # of a plugin that is held in it

Hold = AbstractAsyncContextManager[PluginHold]


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    """A guardian that runs."""
    started = Guardian()
    started.start()
    yield started
    started.close()


class Reload:
    """A plugin process with two sockets, and how it is watched and told to start anew."""

    def __init__(self, node: NodeFolder, guardian: Guardian, *arguments: str) -> None:
        self.program = node.start_plugin(ONE_SOCKET, THREE_SOCKET, *arguments)
        self.process = HostProcess(self.program.pid, os.pidfd_open(self.program.pid))
        self._folder, self._guardian = node.sockets, guardian

    def watched(self, *, seconds: float = 60.0) -> Hold:
        """The guardian watches inside the block."""
        there = frozenset(PluginSockets(self._folder).all())
        return self._guardian.watch(self.process, self._folder, there, {}, seconds=seconds)

    async def held(self, hold: PluginHold) -> None:
        """Tell the plugin to start anew, and wait for its gap."""
        self.program.signal(signal.SIGHUP)
        async with asyncio.timeout(5):
            assert await hold.stopped() == {ONE_SOCKET, THREE_SOCKET}
        self.program.wait_for_state("T")


def until_it_looked(guardian: Guardian) -> None:
    """Wait until the guardian has slept twice more (proc_pid_status(5)), and thus looked in between."""
    status = Path(f"/proc/{guardian.pid}/status")

    def slept() -> int:
        return int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    before, deadline = slept(), time.monotonic() + 5
    while slept() < before + 2:
        assert time.monotonic() < deadline, "the guardian does not look"
        os.sched_yield()


@pytest.fixture
async def reload(node: NodeFolder, guardian: Guardian) -> AsyncIterator[Reload]:
    """A plugin with a gap of 20 ms."""
    made = Reload(node, guardian, *GAP)
    with made.process:
        yield made


async def test_a_plugin_that_is_in_its_gap_stands_still_until_it_may_go_on(reload: Reload) -> None:
    async with reload.watched() as hold:
        await reload.held(hold)
        assert await hold.stop()
        assert "back" not in reload.program.listen()
        hold.go_on()
        reload.program.wait_for("back")


async def test_each_gap_of_a_reload_is_met(reload: Reload) -> None:
    """A plugin that was just starting ends its start and starts anew: two gaps for one signal."""
    async with reload.watched() as hold:
        for _ in range(3):
            await reload.held(hold)
            hold.go_on()
            reload.program.wait_for("back")


async def test_all_sockets_are_named_also_those_that_went_first(
    node: NodeFolder, reload: Reload, guardian: Guardian
) -> None:
    """The kubelet has to forget each of them before the plugin may go on."""
    async with reload.watched() as hold:
        (node.sockets / ONE_SOCKET).unlink()
        (node.sockets / "nvidia-gpu.sock").touch()
        await asyncio.to_thread(until_it_looked, guardian)
        (node.sockets / "nvidia-gpu.sock").unlink()
        (node.sockets / THREE_SOCKET).unlink()
        async with asyncio.timeout(5):
            assert await hold.stopped() == {ONE_SOCKET, THREE_SOCKET, "nvidia-gpu.sock"}


async def test_a_busy_agent_misses_no_gap(node: NodeFolder, guardian: Guardian) -> None:
    """A thread of the agent in the guardian's place got its turn in half of these gaps."""
    reload = Reload(node, guardian, "--gap", "0.005")
    idle = threading.Event()

    def keep_the_interpreter_busy() -> None:
        while not idle.is_set():
            sum(range(1000))

    others = [threading.Thread(target=keep_the_interpreter_busy) for _ in range(2)]
    for each in others:
        each.start()
    met = 0
    try:
        for _ in range(10):
            async with reload.watched() as hold:
                reload.program.signal(signal.SIGHUP)
                try:
                    async with asyncio.timeout(1):
                        await hold.stopped()
                except TimeoutError:
                    continue
                met += 1
            reload.program.wait_for("back")
    finally:
        idle.set()
        for each in others:
            each.join()
    assert met >= 9, "one may be lost to a machine that stands still"


async def test_nothing_is_stopped_while_a_socket_is_there(node: NodeFolder, reload: Reload) -> None:
    async with reload.watched() as hold:
        await reload.held(hold)
        (node.sockets / ONE_SOCKET).touch()
        assert not await hold.stop()
        reload.program.wait_for("back")


async def test_a_held_plugin_that_goes_on_for_a_moment_is_held_again(node: NodeFolder, guardian: Guardian) -> None:
    reload = Reload(node, guardian, "--gap", "5")
    async with reload.watched() as hold:
        await reload.held(hold)
        assert await hold.let_go(0.002)
        reload.program.wait_for("continued")
        reload.program.wait_for_state("T")


async def test_after_the_end_nothing_is_stopped_any_more(reload: Reload) -> None:
    async with reload.watched() as hold:
        await reload.held(hold)
    reload.program.wait_for("back")
    reload.program.signal(signal.SIGHUP)
    reload.program.wait_for("back")


async def test_a_watch_that_nobody_ends_ends_by_itself(reload: Reload) -> None:
    async with reload.watched(seconds=0.01) as hold:
        with pytest.raises(GuardianGone):
            await hold.stopped()
        reload.program.signal(signal.SIGHUP)
        reload.program.wait_for("back")


async def test_only_while_it_watches_the_guardian_is_ahead_of_others(reload: Reload, guardian: Guardian) -> None:
    before = os.sched_getscheduler(guardian.pid)
    async with reload.watched():
        assert os.sched_getscheduler(guardian.pid) in (os.SCHED_FIFO, before)
    async with reload.watched(seconds=0.01) as hold:
        with pytest.raises(GuardianGone):
            await hold.stopped()
    assert os.sched_getscheduler(guardian.pid) == before


async def test_a_plugin_goes_on_when_the_agent_hangs_while_it_holds_it(node: NodeFolder, guardian: Guardian) -> None:
    reload = Reload(node, guardian, *GAP)
    async with reload.watched() as hold:
        await reload.held(hold)
        reload.program.wait_for("back")
        with pytest.raises(GuardianGone):
            await hold.stop()
    assert LONGEST_HOLD < 1


def test_a_plugin_goes_on_when_the_agent_is_killed_while_it_holds_it(node: NodeFolder) -> None:
    plugin = node.start_plugin(ONE_SOCKET, *GAP)
    agent = node.run([sys.executable, str(AGENT), str(node.proc), str(node.sockets)])
    agent.wait_for("held")
    plugin.wait_for_state("T")
    agent.signal(signal.SIGKILL)
    plugin.wait_for("continued")
    assert plugin.state() != "T"


def test_the_guardian_ends_with_its_agent(node: NodeFolder) -> None:
    plugin = node.start_plugin(ONE_SOCKET, *GAP)
    agent = node.run([sys.executable, str(AGENT), str(node.proc), str(node.sockets)])
    agent.wait_for("held")
    descriptor = os.pidfd_open(int(agent.heard[-1].split()[1]))
    agent.signal(signal.SIGKILL)
    plugin.wait_for("continued")
    with os.fdopen(descriptor) as ended:
        assert select.select([ended], [], [], 5.0)[0], "the guardian outlived its agent"


async def test_a_plugin_goes_on_when_the_guardian_is_killed_while_it_holds_it(
    reload: Reload, guardian: Guardian
) -> None:
    async with reload.watched() as hold:
        await reload.held(hold)
        os.kill(guardian.pid, signal.SIGKILL)
        with pytest.raises(GuardianGone):
            await hold.stop()
    reload.program.wait_for("back")


async def test_without_a_guardian_nothing_is_watched(node: NodeFolder) -> None:
    reload = Reload(node, Guardian())
    with pytest.raises(GuardianGone):
        async with reload.watched():
            raise AssertionError("nobody watches")


async def test_a_dead_guardian_says_so(reload: Reload, guardian: Guardian) -> None:
    kill(guardian.pid)
    assert not guardian.alive
    with pytest.raises(GuardianGone):
        async with reload.watched():
            raise AssertionError("nobody watches")
    guardian.start()
    async with reload.watched() as hold:
        await reload.held(hold)
