"""The control plane's programs: found in a folder, found in the cache, or built from the Go module proxy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cdmo_harness.build_progress import BuildProgress
from cdmo_harness.errors import BinariesError, HarnessError, WrongBinary
from cdmo_harness.go_build import GoModule, ProgramCache
from cdmo_harness.go_toolchain import Toolchains

# Names a folder that holds the programs under their usual names. Then nothing else is looked at.
FOLDER_VARIABLE = "CDMO_BINARIES"
_OLDER_KUBERNETES = "kubernetes-"  # and the version: folders of the other modules of Kubernetes


class Component(StrEnum):
    """A program of the cluster; the value is its file name."""

    ETCD = "etcd"
    API_SERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"
    SCHEDULER = "kube-scheduler"
    KUBECTL = "kubectl"
    KUBELET = "kubelet"


CONTROL_PLANE = (
    Component.ETCD,
    Component.API_SERVER,
    Component.CONTROLLER_MANAGER,
    Component.SCHEDULER,
)

# How each program, asked for its version, names itself.
_ETCD_VERSION = re.compile(r"etcd Version: (\S+)")
_KUBERNETES_VERSION = re.compile(r"Kubernetes (v\S+)")
_KUBECTL_VERSION = re.compile(r"Client Version: (v\S+)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """Programs that were found, by component."""

    paths: Mapping[Component, Path]

    def path(self, component: Component) -> Path:
        """The program's path; WrongBinary if it was not among the components asked for."""
        try:
            return self.paths[component]
        except KeyError:
            raise WrongBinary(
                f"{component} was not asked for when the programs were looked up",
                hint="name it among the components of find_binaries",
            ) from None


def find_binaries(
    components: Iterable[Component],
    *,
    environment: Mapping[str, str],
    progress: BuildProgress,
    kubernetes: str | None = None,
) -> Binaries:
    """Find or build the programs.

    In this order: the folder that CDMO_BINARIES names, which then must have all of them; the cache; a build
    with Go, which takes minutes the first time and goes into the cache. `progress` hears about the build.
    `kubernetes`: one of `kubernetes_versions()`, for programs of that version whatever CDMO_BINARIES says.
    """
    wanted = tuple(dict.fromkeys(components))
    folder = environment.get(FOLDER_VARIABLE)
    if folder and kubernetes is None:
        return Binaries(_from_folder(Path(folder), wanted))
    cache_folder = cache_root(environment)
    modules = (etcd_module(), kubernetes_module(kubernetes))
    minimum = max(module.required_go for module in modules)
    toolchains = Toolchains(
        minimum,
        environment=environment,
        cache=cache_folder,
        progress=progress,
        python=Path(sys.executable),
    )
    cache = ProgramCache(cache_folder, toolchains, environment=environment, progress=progress)
    paths: dict[Component, Path] = {}
    for module in modules:
        names = [component for component in wanted if component.value in module.programs]
        if names:
            found = cache.programs(module, [name.value for name in names])
            paths |= {name: found[name.value] for name in names}
    return Binaries(paths)


def cache_root(environment: Mapping[str, str]) -> Path:
    """The cache's folder: CDMO_CACHE, else `cdmo` in XDG_CACHE_HOME, else in ~/.cache."""
    own = environment.get("CDMO_CACHE")
    if own:
        return Path(own).absolute()
    shared = environment.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache").absolute() / "cdmo"


def etcd_module() -> GoModule:
    """The Go module that pins etcd."""
    return GoModule(_modules_folder() / "etcd", {"etcd": "go.etcd.io/etcd/server/v3"})


def kubernetes_versions() -> tuple[str, ...]:
    """The versions of Kubernetes that can be built, as "1.36.3", newest first; the first one is the usual one."""
    older = [each.name.removeprefix(_OLDER_KUBERNETES) for each in _modules_folder().glob(f"{_OLDER_KUBERNETES}*")]
    usual = GoModule(_modules_folder() / "kubernetes", {}).required_version("k8s.io/kubernetes").removeprefix("v")
    return (usual, *sorted(older, reverse=True))


def kubernetes_module(wanted: str | None = None) -> GoModule:
    """The Go module that pins Kubernetes, with the version stamps that its own build sets.

    Without stamps the API server says v0.0.0-master and clients cannot tell what it offers. `wanted`: one of
    `kubernetes_versions()`, else the usual one; BinariesError for any other.
    """
    usual, *older = kubernetes_versions()
    if wanted is not None and wanted not in (usual, *older):
        raise BinariesError(
            f"Kubernetes {wanted} cannot be built here", hint="choose one of " + ", ".join((usual, *older))
        )
    name = "kubernetes" if wanted in (None, usual) else f"{_OLDER_KUBERNETES}{wanted}"
    folder = _modules_folder() / name
    version = GoModule(folder, {}).required_version("k8s.io/kubernetes")
    major, minor = version.removeprefix("v").split(".")[:2]
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitCommit": "unknown"}
    return GoModule(
        folder,
        {name.value: f"k8s.io/kubernetes/cmd/{name}" for name in Component if name is not Component.ETCD},
        tuple(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items()),
    )


def _modules_folder() -> Path:
    """`go/` of the harness: beside `src/` in a checkout, inside the package where it was installed."""
    package = Path(__file__).parent
    for folder in (package / "go", package.parents[1] / "go"):
        if folder.is_dir():
            return folder
    raise HarnessError(
        "the Go module files of the harness are missing",
        hint="run the harness from a checkout of the project (pip install -e harness)",
    )


def _from_folder(folder: Path, wanted: tuple[Component, ...]) -> dict[Component, Path]:
    paths = {component: folder.absolute() / component.value for component in wanted}
    for component, path in paths.items():
        if not path.is_file() or not os.access(path, os.X_OK):
            raise WrongBinary(
                f"{FOLDER_VARIABLE} names {folder}, but there is no program {component} in it",
                hint=f"put {component} there, or unset {FOLDER_VARIABLE} to have it built",
            )
    with ThreadPoolExecutor(len(paths) or 1) as threads:
        list(threads.map(program_version, paths.keys(), paths.values()))
    return paths


def program_version(component: Component, path: Path) -> str:
    """What the program says its version is; WrongBinary if it cannot run or is another program."""
    arguments = ["version", "--client"] if component is Component.KUBECTL else ["--version"]
    pattern = {Component.ETCD: _ETCD_VERSION, Component.KUBECTL: _KUBECTL_VERSION}.get(component, _KUBERNETES_VERSION)
    hint = f"replace it with {component} for this machine, or unset {FOLDER_VARIABLE} to have it built"
    try:
        answer = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise WrongBinary(f"{path} cannot be run: {error}", hint=hint) from error
    found = pattern.search(answer.stdout)
    if answer.returncode != 0 or found is None:
        said = (answer.stdout + answer.stderr).strip()[:200]
        raise WrongBinary(f"{path} is not {component}: asked for its version it said {said!r}", hint=hint)
    return found[1]
