"""The image of this checkout, built before the first test that reads it and unpacked once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from cdmo_harness.binaries import cache_root
from cdmo_harness.build_progress import show_progress
from cdmo_harness.errors import ImageNotBuilt
from cdmo_harness.images import ImageArchive, build_image
from cdmo_harness.images.contained import require
from rich.console import Console

_ARCHIVE = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """The marker's meaning."""
    config.addinivalue_line("markers", "image: reads the container image (root, buildah and mmdebstrap build it)")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build it here: a first build takes minutes, far beyond one test's limit."""
    items = [item for item in session.items if item.get_closest_marker("image")]
    if session.config.option.collectonly or not items:
        return
    try:
        require("buildah", "mmdebstrap")
    except ImageNotBuilt as error:
        if os.environ.get("CI"):
            raise pytest.UsageError(f"{error}\nhint: {error.hint}") from error
        for item in items:
            item.add_marker(pytest.mark.skip(reason=str(error)))
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with (
        capture.global_and_fixture_disabled() if capture else nullcontext(),
        show_progress(Console(stderr=True)) as progress,
    ):
        try:
            session.config.stash[_ARCHIVE] = build_image(cache_root(os.environ), progress)
        except ImageNotBuilt as error:
            raise pytest.UsageError(f"{error}\nhint: {error.hint}") from error


@pytest.fixture(scope="session")
def archive(pytestconfig: pytest.Config) -> Path:
    """The archive."""
    return pytestconfig.stash[_ARCHIVE]


@pytest.fixture(scope="session")
def image(archive: Path) -> ImageArchive:
    """The archive, read."""
    return ImageArchive(archive)


@pytest.fixture(scope="session")
def root(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's files, unpacked as a node would, by tar."""
    folder = tmp_path_factory.mktemp("image")
    unpacked = ImageArchive(archive)
    with subprocess.Popen(["tar", "-x", "-C", folder, "-f", archive], stdin=subprocess.DEVNULL) as process:
        assert process.wait() == 0
    files = folder / "root"
    files.mkdir()
    for layer in unpacked.manifest["layers"]:
        blob = folder / "blobs" / layer["digest"].replace(":", "/")
        subprocess.run(["tar", "-x", "--same-owner", "-p", "-C", files, "-f", blob], check=True)
    yield files
