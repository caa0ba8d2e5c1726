"""Make the documentation site in build/docs/site: `make docs`. A dead link or anchor is an error.

    python -m tools.build_docs [FOLDER]    the site of FOLDER's pages; without it of this checkout

Sphinx comes from requirements/docs.txt into an environment of its own in build/docs, made once for each content of
that file: it shares nothing with what CDMO is tested with.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from cdmo_harness.file_lock import file_lock

from tools.generated import REPOSITORY

PINS = REPOSITORY / "requirements" / "docs.txt"
OUTPUT = Path("build") / "docs"
_INSTALL_LIMIT = 600  # seconds
_BUILD_LIMIT = 300  # seconds


class NotBuilt(Exception):
    """Why there is no site; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def environment() -> Path:
    """The folder of an environment with Sphinx. Raises NotBuilt when it cannot be made."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(version.encode() + PINS.read_bytes()).hexdigest()[:16]
    folder = REPOSITORY / OUTPUT / f"environment-{digest}"
    stamp = folder / "complete"  # the last to come: without it an installation was cut short
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.with_suffix(".lock")):
        if not stamp.exists():
            shutil.rmtree(folder, ignore_errors=True)
            hint = "a Python package registry has to be reachable once, directly or as pip's configuration says"
            _run([sys.executable, "-m", "venv", str(folder)], _INSTALL_LIMIT, hint)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--only-binary=:all:", "--require-hashes", "-r", str(PINS)], _INSTALL_LIMIT, hint)
            stamp.touch()
    return folder


def build(repository: Path, folder: Path) -> Path:
    """The site of a repository's pages, below `folder`. Raises NotBuilt with what Sphinx said."""
    site, read = folder / "site", folder / "doctrees"
    # Pages that are gone would stay, and what was wrong with a page that has been read is not said again.
    for each in (site, read):
        shutil.rmtree(each, ignore_errors=True)
    command = [str(environment() / "bin" / "sphinx-build"), "--builder", "html", "--quiet", "--no-color"]
    command += ["--fail-on-warning", "--conf-dir", str(repository / "docs"), "--doctree-dir", str(read)]
    _run([*command, str(repository), str(site)], _BUILD_LIMIT, "mend the pages that are named above")
    return site


def _run(command: list[str], limit: float, hint: str) -> None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{Path(command[0]).name} did not end well: {error}", hint) from error
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).strip()
        raise NotBuilt(f"{said}\n{Path(command[0]).name} ended with status {answer.returncode}", hint)


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make the documentation site.")
    parser.add_argument("repository", nargs="?", type=Path, default=REPOSITORY)
    repository = parser.parse_args().repository.resolve()
    try:
        site = build(repository, repository / OUTPUT)
    except NotBuilt as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return 1
    sys.stdout.write(f"{site / 'index.html'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
