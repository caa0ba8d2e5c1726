"""The same sources make the same image, in another folder and without what an earlier build left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cdmo_harness.binaries import cache_root
from cdmo_harness.images import ImageArchive, build_image
from cdmo_harness.images.inputs import INPUTS, revision

from tests.fakes.steps import ToldSteps
from tests.image.test_contents import REPOSITORY

# A whole build: a minute on a machine that has nothing else to do.
pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


def another_checkout(folder: Path) -> Path:
    """The same commit elsewhere, with what is not committed yet, and with other rights and times of its files."""
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, folder], check=True, timeout=60)
    for name in INPUTS:
        target = folder / name
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(REPOSITORY / name, target)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o020)
    return folder


def cache_with_base(folder: Path) -> Path:
    """A cache that holds the base that this machine made already, and no image."""
    images = folder / "images"
    images.mkdir(parents=True)
    for kept in (cache_root(os.environ) / "images").iterdir():
        if kept.name.startswith("base-"):
            (images / kept.name).symlink_to(kept)
    return folder


def test_a_second_build_in_another_folder_has_the_same_digest(archive: Path, tmp_path: Path) -> None:
    checkout = another_checkout(tmp_path / "elsewhere" / "checkout")
    assert revision(checkout) == revision(REPOSITORY)
    steps = ToldSteps()
    second = build_image(cache_with_base(tmp_path / "cache"), steps, repository=checkout)
    assert any("compileall" in title for title in steps.titles)
    assert ImageArchive(second).digest == ImageArchive(archive).digest
    assert second.read_bytes() == archive.read_bytes()
    assert second.name == archive.name
    assert sorted(path.name for path in second.parent.iterdir() if path.name.startswith("scratch")) == []


def test_what_was_built_is_not_built_again(archive: Path) -> None:
    steps = ToldSteps()
    assert build_image(cache_root(os.environ), steps) == archive
    assert steps.titles == []
