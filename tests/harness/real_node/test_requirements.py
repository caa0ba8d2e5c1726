"""A machine that cannot run a real node is told what is missing, before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cdmo_harness.errors import HarnessError
from cdmo_harness.real_node import containerd, requirements


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if by root: what comes after that question can be asked on any machine."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_without_root_the_simulated_nodes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HarnessError, match="needs root") as caught:
        requirements.check_machine()
    assert "make test" in caught.value.hint


def test_missing_programs_are_told_as_packages_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None if name in ("runc", "ctr") else f"/bin/{name}")
    with pytest.raises(HarnessError, match="not installed") as caught:
        requirements.check_machine()
    assert caught.value.hint.endswith("install --no-install-recommends containerd runc containernetworking-plugins")


def test_missing_network_plugins_are_told_as_a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: f"/bin/{name}")
    monkeypatch.setattr(containerd, "CNI_PLUGINS", (str(tmp_path),))
    with pytest.raises(HarnessError, match="CNI plugins are missing") as caught:
        requirements.check_machine()
    assert "containernetworking-plugins" in caught.value.hint
