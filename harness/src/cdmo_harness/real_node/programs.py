"""The two C programs of a real node: what runs in its containers, and the hook that puts them on slices."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cdmo_harness.errors import HarnessError
from cdmo_harness.nvml_build import BUILD_LIMIT_SECONDS, compiler

SOURCES = Path(__file__).with_name("programs")
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2")


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the built programs."""

    workload: Path  # static: it is all there is in its image
    slice_hook: Path


def build_programs(cache: Path) -> Programs:
    """Compile both unless this very content already was; safe to call from several processes at once."""
    command = compiler()
    return Programs(
        workload=_build(command, SOURCES / "workload.c", cache, ("-static",), ("-lm",)),
        slice_hook=_build(command, SOURCES / "slice_hook.c", cache, (), ("-ldl",)),
    )


def _build(
    command: tuple[str, ...], source: Path, cache: Path, flags: tuple[str, ...], libraries: tuple[str, ...]
) -> Path:
    digest = hashlib.sha256(repr((command, _FLAGS, flags, libraries)).encode() + source.read_bytes())
    program = cache / digest.hexdigest()[:16] / source.stem
    if program.is_file():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent, prefix=".build-") as scratch:
        fresh = Path(scratch) / source.stem
        try:
            done = subprocess.run(
                [*command, *_FLAGS, *flags, "-o", str(fresh), str(source), *libraries],
                capture_output=True,
                text=True,
                timeout=BUILD_LIMIT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HarnessError(f"{source.name} could not be compiled: {error}") from error
        if done.returncode != 0:
            raise HarnessError(f"{source.name} could not be compiled", hint=done.stderr.strip()[-2000:])
        fresh.replace(program)
    return program
