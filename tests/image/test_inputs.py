"""Which files make an image, and how their digest and revision change."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cdmo_harness.errors import ImageNotBuilt
from cdmo_harness.images.base import RELEASE
from cdmo_harness.images.inputs import INPUTS, Revision, content_digest, copy_inputs, product_version, revision

from cdmo.version import __version__

REPOSITORY = Path(__file__).parents[2]


def small(folder: Path) -> Path:
    """A checkout with a file for each input."""
    for name in INPUTS:
        path = folder / name
        if path.suffix or name in ("Dockerfile", "LICENSE", ".dockerignore"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}\n")
        else:
            path.mkdir(parents=True)
            (path / "version.py").write_text('__version__ = "1.2.3"\n')
    return folder


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    when = {"GIT_AUTHOR_DATE": "@1700000000 +0000", "GIT_COMMITTER_DATE": "@1700000000 +0000"}
    command = ["git", *own, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **when}
    ).stdout.strip()


def committed(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=all")
    return git(folder, "rev-parse", "HEAD")


def digest_of_copy(repository: Path, target: Path) -> str:
    copy_inputs(repository, target)
    return content_digest(target)


def test_the_digest_follows_contents_and_not_times_or_the_folder(tmp_path: Path) -> None:
    one, two = small(tmp_path / "one"), small(tmp_path / "elsewhere" / "two")
    os.utime(two / "LICENSE", (1, 1))
    (two / "not-an-input").write_text("other")
    (two / "src/cdmo/__pycache__").mkdir()
    (two / "src/cdmo/__pycache__/version.cpython-311.pyc").write_bytes(b"\0")
    assert digest_of_copy(one, tmp_path / "copy-1") == digest_of_copy(two, tmp_path / "copy-2")


@pytest.mark.parametrize(
    "name", ["Dockerfile", "image/version.py", "src/cdmo/version.py", "requirements/runtime.txt"]
)
def test_every_input_changes_the_digest(tmp_path: Path, name: str) -> None:
    repository = small(tmp_path / "one")
    before = digest_of_copy(repository, tmp_path / "copy-1")
    with (repository / name).open("a") as stream:
        stream.write("# more\n")
    assert digest_of_copy(repository, tmp_path / "copy-2") != before


def test_further_texts_change_the_digest(tmp_path: Path) -> None:
    repository = small(tmp_path / "one")
    assert (
        content_digest(repository, "ab", "c") != content_digest(repository, "a", "bc") != content_digest(repository)
    )


def test_the_revision_is_the_last_commit_that_changed_an_input(tmp_path: Path) -> None:
    repository = small(tmp_path / "one")
    first = committed(repository)
    (repository / "docs.md").write_text("about\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=docs")
    assert revision(repository) == Revision(first, 1_700_000_000)


def test_a_changed_input_is_said_in_the_revision(tmp_path: Path) -> None:
    repository = small(tmp_path / "one")
    first = committed(repository)
    (repository / "src/cdmo/new.py").write_text("")
    assert revision(repository) == Revision(f"{first}-modified", 1_700_000_000)


def test_without_history_the_revision_is_unknown_and_its_time_fixed(tmp_path: Path) -> None:
    assert revision(small(tmp_path / "one")) == revision(small(tmp_path / "two")) == Revision("unknown", 1577836800)


def test_a_folder_that_is_no_checkout_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageNotBuilt, match=r"Dockerfile, which the image is made of, cannot be read") as caught:
        copy_inputs(tmp_path, tmp_path / "copy")
    assert "checkout" in caught.value.hint


def test_the_version_is_read_from_the_copied_source(tmp_path: Path) -> None:
    copy_inputs(REPOSITORY, tmp_path / "copy")
    assert product_version(tmp_path / "copy") == __version__
    (tmp_path / "copy/src/cdmo/version.py").write_text("")
    with pytest.raises(ImageNotBuilt, match="sets no __version__"):
        product_version(tmp_path / "copy")


def test_docker_is_given_the_same_files() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert kept == set(INPUTS) - {"Dockerfile", ".dockerignore"}


def test_the_base_is_of_the_release_that_everybody_else_builds_on() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert f"\nARG BASE=debian:{RELEASE}-slim\n" in dockerfile
