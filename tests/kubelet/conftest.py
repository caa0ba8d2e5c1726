"""Folders short enough for Unix sockets, and processes that never outlive their test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubelet.plugins import NodeFolder
from tests.simulated import simulated_library

__all__ = ["simulated_library"]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's 107 characters."""
    with tempfile.TemporaryDirectory(prefix="cdmo-") as path:
        yield Path(path)


@pytest.fixture
def node(short_folder: Path) -> Iterator[NodeFolder]:
    """A node without processes."""
    folder = NodeFolder(short_folder)
    yield folder
    folder.close()
