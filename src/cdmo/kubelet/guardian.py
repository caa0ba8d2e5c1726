"""Sees to it that a stopped process goes on, also when the one who stopped it dies.

Run as a program of its own (`python -I -S guardian.py`), with one end of a Unix socket as standard input. Over it
come a pidfd with the byte "H" when a process is about to be stopped and "R" when it goes on again. At the end of
the stream, or when a hold lasts too long, the process gets SIGCONT. It is started once: starting it takes longer
than a hold may last.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress

HOLD = b"H"
RELEASE = b"R"
LONGEST_HOLD = 0.8  # seconds; no hold is meant to last half as long, so the agent hangs
_END_LIMIT = 2.0  # seconds for the guardian to end


class GuardianGone(Exception):
    """The guardian cannot be told: do not stop anything."""


class Guardian:
    """The other end: starts the guardian and tells it what is held."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The guardian's process id, 0 while there is none."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the guardian, or another one if it ended. It gets a session of its own: signals for ours spare it."""
        self.close()
        ours, theirs = socket.socketpair()
        ours.settimeout(0.1)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours

    def hold(self, pidfd: int) -> None:
        """Call before SIGSTOP. Raises GuardianGone; then the process must not be stopped."""
        if self._socket is None or not self.alive:
            raise GuardianGone
        try:
            socket.send_fds(self._socket, [HOLD], [pidfd])
        except OSError as error:
            raise GuardianGone from error

    def release(self) -> None:
        """Call after SIGCONT."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(RELEASE)

    def close(self) -> None:
        """Let the guardian end; it first lets go of what is still held."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(_END_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._socket = self._process = None


def guard(stream: socket.socket) -> None:
    """The guardian's whole life."""
    held = -1
    while True:
        ready, _, _ = select.select([stream], [], [], LONGEST_HOLD if held >= 0 else None)
        message, descriptors = _receive(stream) if ready else (b"", [])
        if held >= 0:
            if message != HOLD and message != RELEASE:
                _let_go_on(held)
            os.close(held)
        held = descriptors[0] if descriptors else -1
        if ready and not message:
            return


def _receive(stream: socket.socket) -> tuple[bytes, list[int]]:
    """One message; none when the other end is gone, however it went."""
    try:
        message, descriptors, _, _ = socket.recv_fds(stream, 1, 1)
    except OSError:
        return b"", []
    return message, descriptors


def _let_go_on(pidfd: int) -> None:
    with suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)


if __name__ == "__main__":
    guard(socket.socket(fileno=0))
