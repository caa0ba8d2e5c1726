"""What an image is made of: a copy of those files, their digest, and the commit that they come from."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cdmo_harness.errors import ImageNotBuilt

# All that the Dockerfile copies; .dockerignore says the same to docker.
INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "requirements/build.txt",
    "requirements/runtime.txt",
    "requirements/sbom.txt",
    "image",
    "src/cdmo",
)
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc")
_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)

# Seconds since 1970 that stand for the time of a source without history; zip files begin in 1980.
_NO_HISTORY = 1577836800


@dataclass(frozen=True, slots=True)
class Revision:
    """The last commit that changed an input, and so the image."""

    name: str
    """The commit, with "-modified" if the files differ from it; "unknown" without history."""
    seconds: int
    """Its time, in seconds since 1970: of every file in the image, and of the image."""


def copy_inputs(repository: Path, target: Path) -> None:
    """Copy the inputs into the folder `target`, so that who edits them meanwhile does not change the build."""
    for name in INPUTS:
        source, copy = repository / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            if source.is_dir():
                shutil.copytree(source, copy, ignore=_NOT_COPIED)
            else:
                shutil.copy(source, copy)
        except OSError as error:
            raise ImageNotBuilt(
                f"{source}, which the image is made of, cannot be read: {error}",
                hint="build from a checkout of the project",
            ) from error


def content_digest(folder: Path, *further: str) -> str:
    """Digest of names, contents and executability of all files in a folder, and of further texts."""
    digest = hashlib.sha256("\0".join(further).encode())
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        kind = "program" if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else "file"
        digest.update(f"\0{kind} {path.relative_to(folder)} {path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def product_version(folder: Path) -> str:
    """The version that src/cdmo/version.py in this folder says."""
    found = _VERSION.search((folder / "src" / "cdmo" / "version.py").read_text())
    if found is None:
        raise ImageNotBuilt("src/cdmo/version.py sets no __version__")
    return found[1]


def revision(repository: Path) -> Revision:
    """What git says of the inputs; "unknown" where there is no git or no history."""
    try:
        last = _git(repository, "log", "-1", "--format=%H %ct", "--", *INPUTS).split()
        changes = _git(repository, "status", "--porcelain", "--", *INPUTS)
    except (OSError, subprocess.SubprocessError):
        last, changes = [], ""
    if len(last) != 2:
        return Revision("unknown", _NO_HISTORY)
    return Revision(last[0] + ("-modified" if changes else ""), int(last[1]))


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
