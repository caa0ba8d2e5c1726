"""Pin every Python dependency, with the hashes of its files, for all platforms at once (`make requirements`).

    python tools/pin_requirements.py                 keep the pins that still fit, add and drop what changed
    python tools/pin_requirements.py --upgrade       take the newest versions that fit

Reads pyproject.toml, harness/pyproject.toml and requirements/*.in; writes requirements/*.txt. One file serves
every supported Python and architecture: what applies only somewhere carries a marker. The resolver (uv) comes
from requirements/pinning.txt into a private environment in build/, so nothing has to be installed first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
OLDEST_PYTHON = "3.11"

# Installed from this checkout, never from a registry: pinning it would fetch a stranger's package.
OWN_DISTRIBUTION = "cdmo"


@dataclass(frozen=True, slots=True)
class Target:
    """One requirements/<name>.txt: where its direct requirements come from, and whose pins it has to share.

    `alone`: what its requirements need in turn is left out, for only a file inside them is wanted.
    """

    name: str
    inputs: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    agrees_with: tuple[str, ...] = ()
    alone: bool = False


# In this order: what agrees with a file comes after it.
TARGETS = (
    Target("pinning", inputs=("pinning.in",)),
    Target("build", inputs=("build.in",)),
    Target("runtime", projects=("pyproject.toml",)),
    Target(
        "development",
        inputs=("build.in", "development.in"),
        projects=("pyproject.toml", "harness/pyproject.toml"),
        agrees_with=("build", "runtime"),
    ),
    Target("clearml", inputs=("clearml.in",)),
    Target("docs", inputs=("docs.in",)),
    Target("sbom", inputs=("sbom.in",)),
    Target("helm", inputs=("helm.in",), alone=True),
    Target("helm-oldest", inputs=("helm-oldest.in",), alone=True),
)


def direct_requirements(target: Target) -> list[str]:
    """The lines to resolve, from the target's .in files and project files."""
    lines: list[str] = []
    for project in target.projects:
        settings: dict[str, Any] = tomllib.loads((REPOSITORY / project).read_text())
        lines += [line for line in settings["project"]["dependencies"] if line != OWN_DISTRIBUTION]
    for name in target.inputs:
        lines += (REQUIREMENTS / name).read_text().splitlines()
    return lines


def header(target: Target) -> str:
    """The first lines of the written file: no path and no address, so that it is the same wherever it is made."""
    sources = ", ".join((*target.projects, *(f"requirements/{name}" for name in target.inputs)))
    return f"# Pinned by `make requirements` from {sources}; do not edit.\n"


def resolver() -> Path:
    """The uv that requirements/pinning.txt names; on the very first run the newest one."""
    folder = REPOSITORY / "build" / "pinning"
    program = folder / "bin" / "uv"
    if not program.exists():
        venv.create(folder, with_pip=True)
    pins = REQUIREMENTS / "pinning.txt"
    wanted = ["--require-hashes", "-r", str(pins)] if pins.exists() else ["uv"]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True, stdout=sys.stderr)
    return program


def pin(target: Target, uv: Path, *, upgrade: bool) -> None:
    """Resolve one target and write its file."""
    written = REQUIREMENTS / f"{target.name}.txt"
    command = [str(uv), "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON]
    command += ["--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    for other in target.agrees_with:
        command += ["--constraint", f"requirements/{other}.txt"]
    # The annotations would name the constraint files, and differ with every reordering.
    command += ["--no-annotate", "--output-file", str(written), "-"]
    command += ["--upgrade"] if upgrade else []
    command += ["--no-deps"] if target.alone else []
    subprocess.run(
        command,
        input="\n".join(direct_requirements(target)),
        text=True,
        check=True,
        cwd=REPOSITORY,
        stdout=sys.stderr,
    )
    written.write_text(header(target) + written.read_text())


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description="Pin every Python dependency with the hashes of its files.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    upgrade = parser.parse_args().upgrade
    try:
        uv = resolver()
        for target in TARGETS:
            pin(target, uv, upgrade=upgrade)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"error: {Path(error.cmd[0]).name} ended with status {error.returncode}\n")
        sys.stderr.write("hint: its own words are above; a package registry has to be reachable\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
