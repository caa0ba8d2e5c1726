"""The device plugin's sockets in the kubelet's folder."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdmo.kubelet.sockets import PluginSockets, resource_of, socket_of, without


@contextmanager
def served(path: Path) -> Iterator[None]:
    """Somebody listens there."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-3g.40gb", "nvidia.com/mig-1g.10gb.me"])
def test_a_socket_is_named_after_its_resource(resource: str) -> None:
    assert resource_of(socket_of(resource)) == resource


def test_a_sockets_name_is_the_device_plugins_own() -> None:
    assert socket_of("nvidia.com/mig-3g.40gb") == "nvidia-mig-3g.40gb.sock"


def test_only_the_plugins_sockets_are_seen(tmp_path: Path) -> None:
    with served(tmp_path / "kubelet.sock"), served(tmp_path / "nvidia-gpu.sock"):
        assert set(PluginSockets(tmp_path).all()) == {"nvidia-gpu.sock"}


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert PluginSockets(tmp_path / "missing").all() == {}


def test_a_socket_nobody_serves_is_abandoned(tmp_path: Path) -> None:
    with served(tmp_path / "nvidia-gpu.sock"):
        with served(tmp_path / "nvidia-mig-1g.10gb.sock"):
            assert PluginSockets(tmp_path).abandoned() == {}
        assert set(PluginSockets(tmp_path).abandoned()) == {"nvidia-mig-1g.10gb.sock"}


def test_a_socket_made_again_under_its_name_is_another(tmp_path: Path) -> None:
    path, sockets = tmp_path / "nvidia-gpu.sock", PluginSockets(tmp_path)
    with served(path):
        before = sockets.all()
    assert without(sockets.all(), before) == {}
    path.rename(tmp_path / "kept")  # so that its inode is not given again
    with served(path):
        assert set(without(sockets.all(), before)) == {"nvidia-gpu.sock"}
