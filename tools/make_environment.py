"""Make .venv from the pinned requirements: `make setup`. Nothing to do: it returns at once.

Every file is checked against its hash. Standard library only, and words that Python 3.8 understands, so that an
old Python can still say what it lacks. Talk goes to stderr: `make demo` has stdout for itself.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)

# What decides whether an environment is up to date: the pins, and what an editable installation records.
INGREDIENTS = (
    "requirements/development.txt",
    "pyproject.toml",
    "harness/pyproject.toml",
    "src/cdmo/version.py",
)
OWN_PROJECTS = (".", "harness")


class SetupFailed(Exception):
    """Why there is no environment; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def fingerprint(repository: Path) -> str:
    """A text that changes when the environment has to be brought up to date."""
    digest = hashlib.sha256(str(repository).encode())
    for name in INGREDIENTS:
        digest.update(name.encode() + b"\0" + (repository / name).read_bytes() + b"\0")
    return digest.hexdigest() + "\n"


def make_environment(repository: Path) -> bool:
    """Bring `repository`/.venv up to date; returns whether anything had to be done."""
    folder = repository / ".venv"
    stamp = folder / "cdmo-fingerprint"
    wanted = fingerprint(repository)
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    python = folder / "bin" / "python"
    if not python.exists():
        if sys.version_info[:2] < OLDEST_PYTHON:
            raise SetupFailed(
                "Python {}.{} is too old, CDMO needs 3.11 or newer".format(*sys.version_info[:2]),
                "make PYTHON=python3.11 setup",
            )
        _say("making .venv from requirements/development.txt (a minute, the first time)")
        _run([sys.executable, "-m", "venv", str(folder)], repository, "on Debian: apt-get install python3-venv")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    network = "a Python package registry has to be reachable, directly or as pip's configuration says"
    _run([*pip, "--require-hashes", "-r", "requirements/development.txt"], repository, network)
    projects = [argument for project in OWN_PROJECTS for argument in ("--editable", project)]
    # Without isolation: hatchling comes from the environment, where its hash was checked.
    _run([*pip, "--no-deps", "--no-build-isolation", *projects], repository, "see pip's own words above")
    stamp.write_text(wanted)
    return True


def _run(command: list[str], repository: Path, hint: str) -> None:
    # VIRTUAL_ENV of the caller's shell is somebody else's environment.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    answer = subprocess.run(command, cwd=repository, stdout=sys.stderr, env=environment, check=False)
    if answer.returncode != 0:
        raise SetupFailed(f"{' '.join(command[1:4])} ended with status {answer.returncode}", hint)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Entry point; returns the exit status."""
    try:
        make_environment(REPOSITORY)
    except SetupFailed as error:
        _say(f"error: {error}\nhint: {error.hint}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
