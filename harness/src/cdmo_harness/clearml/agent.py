"""The real clearml-agent from its wheel, in an environment of its own.

Its dependencies are older than ours, so it cannot share ours. requirements/clearml.txt pins it, all that it needs
and a ready kubectl, each with its hash; one folder of the cache per content of that file.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cdmo_harness.build_progress import BuildProgress
from cdmo_harness.clearml.errors import AgentMissing
from cdmo_harness.file_lock import file_lock

# Seconds. The wheels are about 25 MB together.
_INSTALL_LIMIT = 600

_HINT = "a Python package registry has to be reachable once, directly or as pip's configuration says"


@dataclass(frozen=True, slots=True)
class ClearmlAgent:
    """An environment with clearml-agent."""

    folder: Path

    @property
    def python(self) -> Path:
        """The Python that can import clearml_agent."""
        return self.folder / "bin" / "python"

    @property
    def kubectl(self) -> Path:
        """The kubectl that was installed with it."""
        return self.folder / "bin" / "kubectl"

    @classmethod
    def ready(cls, cache: Path, *, environment: Mapping[str, str], progress: BuildProgress) -> Self:
        """The environment in the cache, made if it is not there; `environment` is that of pip."""
        pins = _pins()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        digest = hashlib.sha256(version.encode() + pins.read_bytes()).hexdigest()[:16]
        folder = cache.absolute() / f"clearml-{digest}"
        # The stamp comes last: a folder without it was left by an installation that did not finish.
        stamp = folder / "complete"
        if not stamp.exists():
            cache.mkdir(parents=True, exist_ok=True)
            waiting = "waiting for another installation of clearml-agent"
            lock = cache / f"{folder.name}.lock"
            with file_lock(lock, on_wait=lambda: progress.step(waiting)):
                if not stamp.exists():
                    progress.step("installing clearml-agent")
                    _install(folder, pins, environment)
                    stamp.touch()
        return cls(folder)


def _install(folder: Path, pins: Path, environment: Mapping[str, str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "venv", str(folder)], environment)
    _run([*pip, "--only-binary=:all:", "--require-hashes", "-r", str(pins)], environment)


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, env=dict(environment), timeout=_INSTALL_LIMIT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentMissing(f"clearml-agent cannot be installed: {error}", hint=_HINT) from error
    if answer.returncode != 0:
        lines = (answer.stdout + answer.stderr).strip().splitlines() or ["pip said nothing"]
        raise AgentMissing(f"clearml-agent cannot be installed: {lines[-1]}", hint=_HINT)


def _pins() -> Path:
    pins = Path(__file__).resolve().parents[4] / "requirements" / "clearml.txt"
    if not pins.is_file():
        raise AgentMissing(
            "requirements/clearml.txt, which names clearml-agent, is missing",
            hint="run the harness from a checkout of the project (pip install -e harness)",
        )
    return pins
