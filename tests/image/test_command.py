"""`make image`: what it prints, and where it puts what it built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cdmo_harness.images import ImageArchive, sbom_of

from cdmo.version import __version__

pytestmark = [pytest.mark.image, pytest.mark.timeout(120)]


def test_it_says_where_the_archive_is_and_what_is_in_it(archive: Path, image: ImageArchive, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cdmo_harness.images", "--output", tmp_path / "out"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert (answer.stderr, answer.returncode) == ("", 0)
    said = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())
    copied = tmp_path / "out" / f"cdmo-{__version__}.tar"
    assert said["archive"] == str(copied)
    assert said["digest"] == image.digest
    assert said["name"] == f"docker.io/library/cdmo:{__version__}"
    assert f"{image.unpacked_bytes / 1e6:.1f} MB unpacked" in said["size"]
    assert said["packages"].endswith(f": {sbom_of(copied)}")
    assert copied.read_bytes() == archive.read_bytes()
    assert sbom_of(copied).read_bytes() == sbom_of(archive).read_bytes()
