"""The agent's end of the guardian, the process that holds the device plugin over a gap in its service.

It is started once: starting it takes longer than a gap. What it does is in `cdmo.kubelet.guardian_program`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cdmo.kubelet import guardian_program
from cdmo.kubelet.guardian_program import GO_ON, HELD, LET_GO, MAX_MESSAGE_BYTES, STOP, STOPPED, WATCHING
from cdmo.kubelet.processes import HostProcess
from cdmo.kubelet.sockets import Sockets

_ANSWER_LIMIT = 1.0  # seconds for the guardian to answer, which it does at once
_END_LIMIT = 2.0  # seconds for it to end


class GuardianGone(Exception):
    """The guardian does not answer: the plugin is not held."""


class PluginHold:
    """One reload's hold; its methods raise GuardianGone."""

    def __init__(self, plugin: HostProcess, connection: socket.socket) -> None:
        self.plugin = plugin
        self._connection = connection

    async def watched(self) -> None:
        """Wait until the guardian looks at the sockets."""
        await self._answer(WATCHING)

    async def stopped(self) -> frozenset[str]:
        """Wait for a gap: the plugin is stopped, and has lost these sockets."""
        message = await self._said(STOPPED)
        return frozenset(message["sockets"])

    async def stop(self) -> bool:
        """Keep the stopped plugin stopped, which the guardian else lets go; False when its gap is over."""
        self._tell({"do": STOP})
        return await self._held()

    async def let_go(self, seconds: float) -> bool:
        """Let the stopped plugin go on for a moment and stop it again; as `stop`."""
        self._tell({"do": LET_GO, "seconds": seconds})
        return await self._held()

    def go_on(self) -> None:
        """Let the stopped plugin go on, until its next gap."""
        self._tell({"do": GO_ON})

    async def _held(self) -> bool:
        return bool((await self._answer(HELD))["held"])

    async def _answer(self, wanted: str) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(_ANSWER_LIMIT):
                return await self._said(wanted)
        except TimeoutError as error:
            raise GuardianGone from error

    async def _said(self, wanted: str) -> Mapping[str, Any]:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._connection, MAX_MESSAGE_BYTES)
        except OSError as error:
            raise GuardianGone from error
        message: Mapping[str, Any] = json.loads(data) if data else {}
        if message.get("say") != wanted:
            raise GuardianGone
        return message

    def _tell(self, message: Mapping[str, Any]) -> None:
        try:
            self._connection.send(json.dumps(message).encode())
        except OSError as error:
            raise GuardianGone from error


class Guardian:
    """Starts the guardian and asks it to watch; without `start` there is none."""

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
        """Start the guardian, or another one if it ended. It gets a session of its own: signals for ours spare it.

        Blocks, for a thread.
        """
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", guardian_program.__name__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours

    @asynccontextmanager
    async def watch(
        self, plugin: HostProcess, folder: Path, sockets: frozenset[str], abandoned: Sockets, *, seconds: float
    ) -> AsyncIterator[PluginHold]:
        """Inside the block it stops the plugin when the last of its `sockets` goes from `folder`; at the end, and at
        the latest after so many seconds, the plugin goes on.

        `abandoned`: sockets in the folder that are not this plugin's. Raises GuardianGone where it does not begin.
        """
        if self._socket is None:
            raise GuardianGone
        asked = {"folder": str(folder), "sockets": sorted(sockets), "abandoned": dict(abandoned), "seconds": seconds}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.setblocking(False)
            with theirs:
                try:
                    message = json.dumps(asked).encode()
                    socket.send_fds(self._socket, [message], [plugin.descriptor, theirs.fileno()])
                except OSError as error:
                    raise GuardianGone from error
            hold = PluginHold(plugin, ours)
            await hold.watched()
            try:
                yield hold
            finally:
                # The guardian does so as well when the connection ends, if it still lives.
                with suppress(PermissionError):
                    plugin.signal(signal.SIGCONT)

    def kill(self) -> None:
        """For a guardian that does not answer. Blocks, for a thread."""
        if self._process is not None:
            self._process.kill()
        self.close()

    def close(self) -> None:
        """Let the guardian end; it first lets go of what is still held. Blocks, for a thread."""
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(_END_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._socket = self._process = None
