"""Linux namespaces, by the few system calls that Python 3.11 does not have (unshare(2), setns(2), mount(2)).

All of them need CAP_SYS_ADMIN and raise OSError.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
NEW_PROCESS_IDS = 0x20000000  # CLONE_NEWPID
NEW_NETWORK = 0x40000000  # CLONE_NEWNET

BIND, RECURSIVE, PRIVATE, SHARED = 0x1000, 0x4000, 0x40000, 0x100000  # MS_*


def unshare(kinds: int) -> None:
    """New namespaces of these kinds for the calling thread; new process ids are those of its later children."""
    _call("unshare", ctypes.c_int(kinds))


def enter(path: Path, kind: int) -> None:
    """Move the calling thread into a namespace (/proc/PID/ns/…); process ids are those of its later children."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", ctypes.c_int(descriptor), ctypes.c_int(kind))
    finally:
        os.close(descriptor)


@contextmanager
def children_in(pid_namespace: Path | None) -> Iterator[None]:
    """What the calling thread starts inside the block gets its ids in this namespace; None changes nothing."""
    if pid_namespace is None:
        yield
        return
    enter(pid_namespace, NEW_PROCESS_IDS)
    try:
        yield
    finally:
        enter(Path("/proc/thread-self/ns/pid"), NEW_PROCESS_IDS)


def mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    """mount(2), without data."""
    arguments = [os.fsencode(each) or None for each in (source, target, kind)]
    try:
        _call("mount", *arguments, ctypes.c_ulong(flags), None)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({source or 'nothing'} on {target})") from error


def _call(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
