"""XIDs from the kernel's log: /dev/kmsg of the host. docs/design/0004-health.md says why not from NVML.

A record is "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT" and lines that begin with a space (the kernel's
Documentation/ABI/testing/dev-kmsg). Sequence numbers grow by one a record and start anew with each boot. Programs may
write to the log too, but never as the kernel: what is not of facility 0 is not believed. The driver's line is (open
kernel modules, src/nvidia/src/kernel/gpu/rc/kernel_rc.c)

    NVRM: Xid (PCI:0000:10:00 GPU-I:03 GPU-CI:00): 94, pid=…

with the instances only where the driver attributes the error to them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import structlog

MAX_READS = 20_000  # records in one go; a log that is flooded is read on the next time
_CHUNK = 16384  # bytes; the kernel's records have at most 8192
_RECORD = re.compile(r"(\d{1,4}),(\d{1,18}),\d{1,19},[^;]{0,64};(.{0,2048})")
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.[0-7])?"
    r"(?: GPU-I:(\d{1,3}))?(?: GPU-CI:\d{1,3})?\): (\d{1,4})\b"
)
_KERNEL = 0  # facility

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class XidEvent:
    """One XID."""

    sequence: int  # of the record in the log of this boot
    gpu: str  # PCI bus id without function, "00000000:10:00"
    xid: int
    gpu_instance: int | None = None  # NVML's id; None: the whole GPU, or the driver does not know


class KernelLog:
    """Reads on from where it stopped. Never blocks; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._rest = b""  # of a line that is not complete yet
        self._complained = False
        self.newest = -1  # sequence number of the last record that was read

    def read(self) -> tuple[XidEvent, ...]:
        """The XIDs that came since the last call; the first call gives all that the log still holds."""
        try:
            if self._replaced():
                self.close()
                self._open()
            return self._read_on()
        except OSError as error:
            self._complain(error.strerror or str(error))
            self.close()
            return ()

    def close(self) -> None:
        """Let the log go; the next read opens it anew, from its beginning."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._rest, self.newest = -1, b"", -1

    def _open(self) -> None:
        """Neither a FIFO nor anything else that could block."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISCHR(kind) or stat.S_ISREG(kind)):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "neither a device nor a file")
        self._descriptor, self._complained = descriptor, False

    def _replaced(self) -> bool:
        if self._descriptor < 0:
            return True
        ours, theirs = os.fstat(self._descriptor), self._path.stat()
        return (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino)

    def _read_on(self) -> tuple[XidEvent, ...]:
        events = []
        for _ in range(MAX_READS):
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                break
            except BrokenPipeError:
                logger.warning("the kernel's log ran over: XIDs may have been missed", path=str(self._path))
                continue  # the next read gives the oldest record that is still there
            if not chunk:
                break
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            self._rest = self._rest[:_CHUNK]
            events += [event for line in lines if (event := self._event(line)) is not None]
        return tuple(events)

    def _event(self, line: bytes) -> XidEvent | None:
        found = _RECORD.match(line.decode("utf-8", "replace"))
        if found is None:
            return None
        priority, sequence, text = int(found[1]), int(found[2]), found[3]
        self.newest = max(self.newest, sequence)
        xid = _XID.match(text)
        if priority >> 3 != _KERNEL or xid is None:
            return None
        domain, bus, device, instance, number = xid.groups()
        return XidEvent(
            sequence,
            f"{int(domain, 16):08X}:{bus.upper()}:{device.upper()}",
            int(number),
            int(instance) if instance else None,
        )

    def _complain(self, why: str) -> None:
        """Once: it is read again and again."""
        if not self._complained:
            logger.warning("the kernel's log cannot be read: XIDs are not seen", path=str(self._path), error=why)
            self._complained = True
