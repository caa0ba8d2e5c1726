"""Noticing that the kubelet made its registration socket anew (inotify, as the real plugin does)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_CREATE, _IN_MOVED_TO = 0x100, 0x80
_HEADER = struct.Struct("iIII")  # struct inotify_event of inotify(7), without the name


@contextmanager
def watch_for_creation(path: Path, created: Callable[[], None]) -> Iterator[None]:
    """Inside the block, `created` is called on the event loop each time `path` appears. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    loop = asyncio.get_running_loop()
    try:
        if library.inotify_add_watch(descriptor, bytes(path.parent), _IN_CREATE | _IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(path.parent))

        def readable() -> None:
            if path.name in _names(os.read(descriptor, 64 * 1024)):
                created()

        loop.add_reader(descriptor, readable)
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _names(data: bytes) -> list[str]:
    names, at = [], 0
    while at < len(data):
        *_, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        names.append(data[at : at + length].rstrip(b"\0").decode())
        at += length
    return names
