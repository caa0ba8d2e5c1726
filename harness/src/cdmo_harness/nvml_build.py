"""Building the simulated libnvidia-ml.so.1 from sim/nvml, once for each content of its sources."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cdmo_harness.errors import HarnessError

SONAME = "libnvidia-ml.so.1"
SOURCES = Path(__file__).resolve().parents[3] / "sim" / "nvml"
FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2"),
    *("-shared", "-fPIC", "-fvisibility=hidden", "-pthread", f"-Wl,-soname,{SONAME}"),
)
BUILD_LIMIT_SECONDS = 300.0


class SimulatorNotBuilt(HarnessError):
    """The simulated NVML cannot be compiled on this machine."""


def compiler() -> tuple[str, ...]:
    """The command of a C compiler: the machine's own, or the one of the ziglang package."""
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return (path,)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    raise SimulatorNotBuilt(
        "there is no C compiler to build the simulated NVML with",
        hint="install gcc or clang, or the Python package ziglang",
    )


def content_hash(sources: Path, command: tuple[str, ...]) -> str:
    """Names a build by everything that goes into it: sources, card tables, generator, compiler and flags."""
    digest = hashlib.sha256(repr((command, FLAGS)).encode())
    for path in sorted(each for each in sources.rglob("*") if each.suffix in {".c", ".h", ".json", ".py"}):
        digest.update(f"\0{path.relative_to(sources)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_LIMIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SimulatorNotBuilt(f"building the simulated NVML failed: {error}") from error
    if done.returncode != 0:
        raise SimulatorNotBuilt(
            f"building the simulated NVML failed: {Path(command[0]).name} ended with {done.returncode}",
            hint=done.stderr.strip()[-2000:],
        )


def build_library(destination_dir: Path) -> Path:
    """The path of libnvidia-ml.so.1 below `destination_dir`, compiled unless this very content already was.

    The library lies alone in a folder named by its content hash, so that the folder can go into
    LD_LIBRARY_PATH. Safe to call from several processes at once: a finished library appears by rename.
    """
    command = compiler()
    library = destination_dir / content_hash(SOURCES, command) / SONAME
    if library.is_file():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as scratch:
        cards = Path(scratch) / "cards.c"
        _run([sys.executable, str(SOURCES / "generate_cards.py"), str(cards)])
        includes = [f"-I{SOURCES / 'src'}", f"-I{SOURCES / 'include'}"]
        code = [*map(str, sorted((SOURCES / "src").glob("*.c"))), str(cards)]
        fresh = Path(scratch) / SONAME
        _run([*command, *FLAGS, *includes, "-o", str(fresh), *code])
        fresh.replace(library)
    return library
