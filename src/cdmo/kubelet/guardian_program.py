"""The guardian: a process that stops the device plugin in the gap of its service, and sees to it that it goes on.

Run as `python -m cdmo.kubelet.guardian_program` with one end of a Unix socket (SOCK_SEQPACKET) as standard input;
`cdmo.kubelet.guardian` is the other end. Over it comes one message for each reload, with two descriptors: a pidfd of
the plugin, and a connection for this reload alone. On that the guardian says `watching`, and `stopped` at each gap;
then it does what it is told until it is told `go on`. Where the connection ends, or a hold lasts too long, the plugin
goes on: also an agent that was killed, or that hangs, leaves nothing stopped.

It is a process of its own also because of the time it has: a gap can be over in 5 ms, and a thread of the agent gets
its turn only when the interpreter's lock is free. In a busy agent such a thread missed four gaps of five.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdmo.kubelet.sockets import PluginSockets, Sockets, without

WATCHING, STOPPED, HELD = "watching", "stopped", "held"  # what it says
STOP, LET_GO, GO_ON = "stop", "let go", "go on"  # what it is told
MAX_MESSAGE_BYTES = 1 << 16
LONGEST_HOLD = 0.8  # seconds; no hold is meant to last half as long, so the agent hangs
# The pause between looks: from SIGHUP to the end of all sockets it takes some 5 ms. Seconds.
_LOOK_SECONDS = 0.0003


class _Over(Exception):
    """The agent ended this reload, or is gone, or hangs."""


@dataclass(slots=True)
class _Reload:
    """One reload of the plugin, as the guardian sees it."""

    agent: socket.socket
    pidfd: int
    sockets: PluginSockets
    abandoned: Sockets
    served: set[str]
    """All sockets that the plugin was seen with. It removes them one after the other, and in a gap the kubelet must
    forget every one."""
    deadline: float

    def watch(self) -> None:
        """Stop the plugin whenever its last socket goes, until `_Over`.

        More than one restart can come of a signal: a plugin that was just starting first ends its start.
        """
        self._say({"say": WATCHING})
        serving = bool(self.served)
        while time.monotonic() < self.deadline:
            self._told(_LOOK_SECONDS)  # nothing but to end, for nothing is held
            there = self._there()
            self.served.update(there)
            ended, serving = serving and not there, bool(there)
            if ended and self._stop():
                self._say({"say": STOPPED, "sockets": sorted(self.served)})
                self._hold()

    def _hold(self) -> None:
        """The plugin is stopped: do as told until it is to go on, or is past its gap."""
        while True:
            order = self._told(LONGEST_HOLD)
            if order is None:
                raise _Over
            if order["do"] == GO_ON:
                self.go_on()
                return
            if order["do"] == LET_GO:
                self.go_on()
                time.sleep(order["seconds"])
            held = self._stop()
            self._say({"say": HELD, "held": held})
            if not held:
                self.go_on()
                return

    def go_on(self) -> None:
        """Harmless when the plugin was not stopped."""
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)

    def _stop(self) -> bool:
        """Whether the plugin is stopped: not if it has sockets, for then the gap is over."""
        if self._there():
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGSTOP)
        except OSError:
            return False
        return True

    def _there(self) -> Sockets:
        return without(self.sockets.all(), self.abandoned)

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            self.agent.send(json.dumps(message).encode())
        except OSError as error:
            raise _Over from error

    def _told(self, seconds: float) -> Mapping[str, Any] | None:
        """What the agent says, None if nothing within the seconds."""
        if not select.select([self.agent], [], [], seconds)[0]:
            return None
        try:
            message = self.agent.recv(MAX_MESSAGE_BYTES)
        except OSError as error:
            raise _Over from error
        if not message:
            raise _Over
        order: Mapping[str, Any] = json.loads(message)
        return order


def guard(stream: socket.socket) -> None:
    """The guardian's whole life."""
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(stream, MAX_MESSAGE_BYTES, 2)
        except OSError:
            return
        if not message:
            return
        pidfd, connection = descriptors
        try:
            with socket.socket(fileno=connection) as agent:
                _guard_one(agent, pidfd, json.loads(message))
        finally:
            os.close(pidfd)


def _guard_one(agent: socket.socket, pidfd: int, asked: Mapping[str, Any]) -> None:
    reload = _Reload(
        agent,
        pidfd,
        PluginSockets(Path(asked["folder"])),
        {name: (inode, created) for name, (inode, created) in asked["abandoned"].items()},
        set(asked["sockets"]),
        time.monotonic() + asked["seconds"],
    )
    try:
        with _ahead_of_others(), suppress(_Over):
            reload.watch()
    finally:
        reload.go_on()


@contextmanager
def _ahead_of_others() -> Iterator[None]:
    """This process, which sleeps nearly all the time, gets its turn at once, where that is allowed (CAP_SYS_NICE).

    On a busy node a turn can come tens of milliseconds late, when the plugin has long registered again.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


if __name__ == "__main__":
    guard(socket.socket(fileno=0))
