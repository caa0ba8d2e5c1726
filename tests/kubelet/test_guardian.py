"""Whatever happens to the agent, a device plugin that it stopped goes on."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdmo.kubelet.guardian import LONGEST_HOLD, Guardian, GuardianGone
from cdmo.kubelet.hold import PluginHold
from cdmo.kubelet.processes import HostProcess
from cdmo.kubelet.sockets import PluginSockets
from tests.kubelet.plugins import ONE_SOCKET, NodeFolder, Program

AGENT = Path(__file__).with_name("holding_agent.py")


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    """A guardian that runs."""
    started = Guardian()
    started.start()
    yield started
    started.close()


@pytest.fixture
def plugin(node: NodeFolder) -> Iterator[Program]:
    """A plugin, stopped after its guardian was told (by the test)."""
    yield node.start_plugin(ONE_SOCKET)


@pytest.fixture
def pidfd(plugin: Program) -> Iterator[int]:
    """A descriptor of the plugin."""
    descriptor = os.pidfd_open(plugin.pid)
    yield descriptor
    os.close(descriptor)


def test_a_plugin_goes_on_when_the_agent_is_killed_while_it_holds_it(node: NodeFolder, plugin: Program) -> None:
    agent = node.run([sys.executable, str(AGENT), str(node.proc), str(node.sockets)])
    agent.wait_for("held")
    assert agent.heard[-1].endswith("True")
    plugin.wait_for_state("T")
    agent.signal(signal.SIGKILL)
    plugin.wait_for("continued")
    assert plugin.state() != "T"


def test_the_guardian_ends_with_its_agent(node: NodeFolder, plugin: Program) -> None:
    agent = node.run([sys.executable, str(AGENT), str(node.proc), str(node.sockets)])
    agent.wait_for("held")
    descriptor = os.pidfd_open(int(agent.heard[-1].split()[1]))
    agent.signal(signal.SIGKILL)
    plugin.wait_for("continued")
    with os.fdopen(descriptor) as ended:
        assert select.select([ended], [], [], 5.0)[0], "the guardian outlived its agent"


def test_a_plugin_goes_on_when_the_agent_hangs_while_it_holds_it(
    guardian: Guardian, plugin: Program, pidfd: int
) -> None:
    guardian.hold(pidfd)
    plugin.signal(signal.SIGSTOP)
    plugin.wait_for_state("T")
    plugin.wait_for("continued")
    assert LONGEST_HOLD < 1


def test_a_guardian_that_is_closed_lets_go(guardian: Guardian, plugin: Program, pidfd: int) -> None:
    guardian.hold(pidfd)
    plugin.signal(signal.SIGSTOP)
    plugin.wait_for_state("T")
    guardian.close()
    plugin.wait_for("continued")
    assert not guardian.alive


def test_what_was_released_is_not_touched_any_more(guardian: Guardian, plugin: Program, pidfd: int) -> None:
    guardian.hold(pidfd)
    guardian.release()
    plugin.signal(signal.SIGSTOP)
    plugin.wait_for_state("T")
    guardian.close()
    assert plugin.state() == "T"
    assert plugin.listen() == ["started"]


def test_nothing_may_be_held_without_a_guardian(pidfd: int) -> None:
    never_started = Guardian()
    with pytest.raises(GuardianGone):
        never_started.hold(pidfd)
    never_started.release()
    never_started.close()


def test_a_dead_guardian_says_so(guardian: Guardian, pidfd: int) -> None:
    descriptor = os.pidfd_open(guardian.pid)
    os.kill(guardian.pid, signal.SIGKILL)
    os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
    os.close(descriptor)
    assert not guardian.alive
    with pytest.raises(GuardianGone):
        guardian.hold(pidfd)
    guardian.start()
    guardian.hold(pidfd)
    guardian.release()


def test_a_held_plugin_that_goes_on_for_a_moment_is_held_again(
    node: NodeFolder, plugin: Program, guardian: Guardian, pidfd: int
) -> None:
    sockets = PluginSockets(node.sockets)
    # To this hold all of its sockets are somebody else's: there is a gap.
    hold = PluginHold(HostProcess(plugin.pid, pidfd), sockets, sockets.all(), guardian)
    policy = os.sched_getscheduler(0), os.sched_getparam(0)
    assert hold.stop()
    plugin.wait_for_state("T")
    assert hold.let_go(0.002)
    plugin.wait_for("continued")
    plugin.wait_for_state("T")
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == policy, "only for the moment it is ahead of others"
    hold.end()
    assert not hold.let_go(0.002), "after the end nothing is stopped any more"
    assert plugin.state() != "T"
