"""Holding the device plugin still over a gap in its service, between its old sockets and its new ones."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from cdmo.kubelet.guardian import Guardian, GuardianGone
from cdmo.kubelet.processes import HostProcess
from cdmo.kubelet.sockets import PluginSockets, Sockets, without

# The thread's pause between looks: from SIGHUP to the end of all sockets it takes some 5 ms. Seconds.
_POLL_SECONDS = 0.0003

logger = structlog.get_logger(__name__)


class PluginHold:
    """One reload's hold. The methods may be called from several threads; after `end` nothing is stopped any more."""

    def __init__(self, plugin: HostProcess, sockets: PluginSockets, abandoned: Sockets, guardian: Guardian) -> None:
        self.plugin = plugin
        self._sockets = sockets
        self._abandoned = abandoned
        self._guardian = guardian
        self._lock = threading.Lock()
        self._over = False

    def watch(self, last: frozenset[str], stopped: Callable[[frozenset[str]], None]) -> None:
        """Stop the plugin whenever its last socket goes, and tell the names of those that went; until `end`.

        `last`: the sockets it had when this was asked for.

        More than one restart can come of a signal: a plugin that was just starting first ends its start. Blocks,
        for a thread: a turn of a busy event loop can take longer than the whole gap.
        """
        with _ahead_of_others():
            while not self._over:
                there = frozenset(without(self._sockets.all(), self._abandoned))
                if last and not there and self.stop():
                    stopped(last)
                last = there
                time.sleep(_POLL_SECONDS)

    def stop(self) -> bool:
        """Stop the plugin if it has no sockets; False when it has, for then the gap is over."""
        with self._lock:
            if self._over or without(self._sockets.all(), self._abandoned):
                return False
            try:
                self._guardian.hold(self.plugin.descriptor)
            except GuardianGone:
                logger.warning("the guardian is gone: the device plugin is not held over its restart")
                return False
            return self.plugin.signal(signal.SIGSTOP)

    def let_go(self, seconds: float) -> bool:
        """Let the stopped plugin go on for a moment and stop it again; as `stop`. Blocks, for a thread."""
        with _ahead_of_others():
            self.go_on()
            time.sleep(seconds)
            return self.stop()

    def go_on(self) -> None:
        """Let the plugin go on; harmless when it was not stopped."""
        with self._lock:
            self.plugin.signal(signal.SIGCONT)
            self._guardian.release()

    def end(self) -> None:
        """Let the plugin go on for good; the watching thread ends."""
        self._over = True
        self.go_on()


@contextmanager
def _ahead_of_others() -> Iterator[None]:
    """This thread, which sleeps nearly all the time, gets its turn at once, where that is allowed (CAP_SYS_NICE).

    On a busy node a turn can come tens of milliseconds late, when the plugin has long registered again.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)  # 0: of the calling thread, sched_setscheduler(2)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)
