"""Programs built from Go modules and kept in a cache, one folder for each set of inputs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cdmo_harness.build_progress import BuildProgress
from cdmo_harness.errors import BuildFailed
from cdmo_harness.file_lock import file_lock
from cdmo_harness.go_toolchain import GoToolchain, Toolchains
from cdmo_harness.processes import ending_with_us

# Without cgo the programs are static and need no C compiler; without paths of this machine and of its
# version control the same inputs give the same bytes everywhere. Debugger's tables, which the linker drops anyway
# (-s -w), cost a tenth of the compile time.
_BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")
_LINKER_FLAGS = ("-s", "-w")

# `go build -v` prints the import path of each package that it compiles, and nothing else on the line.
_PACKAGE_LINE = re.compile(r"[A-Za-z0-9][\w.\-~/]*")

_UNFINISHED = ".new-"  # folders of programs that are being built

# Lines of the compiler's output that an error message repeats.
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class GoModule:
    """A folder with go.mod and go.sum that pins the programs' sources."""

    folder: Path
    programs: Mapping[str, str]
    """File name of each program, and the package it is built from."""
    linker_flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For messages and folder names."""
        return self.folder.name

    @property
    def required_go(self) -> tuple[int, int, int]:
        """The oldest Go that may build it, as its go.mod says."""
        found = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?", self._go_mod(), re.MULTILINE)
        if found is None:
            raise BuildFailed(f"{self.folder / 'go.mod'} does not say which Go it requires")
        return int(found[1]), int(found[2]), int(found[3] or 0)

    def required_version(self, module: str) -> str:
        """The version at which another module is required, as `v1.37.2`."""
        found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", self._go_mod(), re.MULTILINE)
        if found is None:
            raise BuildFailed(f"{self.folder / 'go.mod'} does not require {module}")
        return found[1]

    def inputs_digest(self) -> str:
        """Digest of everything that decides what the programs are, but for the toolchain."""
        digest = hashlib.sha256()
        for part in (self._go_mod(), (self.folder / "go.sum").read_text(), *_BUILD_FLAGS, *self._ldflags()):
            digest.update(part.encode())
            digest.update(b"\0")
        return digest.hexdigest()[:16]

    def build_arguments(self) -> list[str]:
        """Arguments of `go build` that decide what the programs are."""
        return [*_BUILD_FLAGS, f"-ldflags={' '.join(self._ldflags())}"]

    def _ldflags(self) -> tuple[str, ...]:
        return (*_LINKER_FLAGS, *self.linker_flags)

    def _go_mod(self) -> str:
        return (self.folder / "go.mod").read_text()


class ProgramCache:
    """Built programs below one folder, shared by all processes of this user."""

    def __init__(
        self, folder: Path, toolchains: Toolchains, *, environment: Mapping[str, str], progress: BuildProgress
    ) -> None:
        self._folder = folder / "programs"
        self._toolchains = toolchains
        self._environment = environment
        self._progress = progress

    def programs(self, module: GoModule, names: Iterable[str]) -> dict[str, Path]:
        """The named programs of the module, built if they are not here yet."""
        wanted = tuple(names)
        stem = f"{module.name}-{module.inputs_digest()}"
        toolchain = self._toolchains.present()
        # Without Go at hand, what any Go has built from the same inputs is better than installing one.
        candidates = (
            [self._folder / f"{stem}-{toolchain.label}"]
            if toolchain is not None
            else sorted(self._folder.glob(f"{stem}-*/"))
        )
        for folder in candidates:
            if not _missing(folder, wanted):
                return {name: folder / name for name in wanted}
        toolchain = toolchain or self._toolchains.install()
        folder = self._folder / f"{stem}-{toolchain.label}"
        folder.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another process that builds {module.name}"
        with file_lock(folder / ".lock", on_wait=lambda: self._progress.step(waiting)):
            missing = _missing(folder, wanted)
            if missing:
                self._build(module, missing, toolchain, folder)
        return {name: folder / name for name in wanted}

    def _build(self, module: GoModule, names: tuple[str, ...], toolchain: GoToolchain, folder: Path) -> None:
        """Build all at once (they share most packages) beside the target, then move each into place."""
        title = ", ".join(names)
        packages = [module.programs[name] for name in names]
        compiler = _Compiler(toolchain, module, self._environment, self._progress)
        self._progress.step(f"{title}: fetching sources")
        expected = len(compiler.run(["list", "-deps", *packages]))
        self._progress.compiling(f"{title}: compiling", expected)
        for abandoned in folder.glob(f"{_UNFINISHED}*"):  # of a build that was killed: ours is the only one now
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(dir=folder, prefix=_UNFINISHED) as fresh:
            # go build names a program after its package's last element; a folder takes several at once.
            output = Path(fresh) / names[0] if len(names) == 1 else Path(fresh)
            compiler.run(["build", "-v", *module.build_arguments(), "-o", str(output), *packages])
            absent = _missing(Path(fresh), names)
            if absent:
                raise BuildFailed(f"the Go compiler succeeded but made no {', '.join(absent)}")
            for name in names:
                (Path(fresh) / name).replace(folder / name)


class _Compiler:
    """Runs the go command inside a module and passes on what it reports."""

    def __init__(
        self, toolchain: GoToolchain, module: GoModule, environment: Mapping[str, str], progress: BuildProgress
    ) -> None:
        self._toolchain = toolchain
        self._module = module
        self._progress = progress
        self._environment = {
            # The compiler's own garbage collection takes a fifth of its time; memory is what there is plenty of.
            "GOGC": "400",
            **environment,
            "CGO_ENABLED": "0",
            # This very toolchain: a newer one asked for by some module would be fetched silently.
            "GOTOOLCHAIN": "local",
            # A workspace around the checkout must not replace what go.sum pins.
            "GOWORK": "off",
            "GOFLAGS": "-mod=readonly",
        }

    def run(self, arguments: list[str]) -> list[str]:
        """Run `go` with these arguments; returns the lines of its standard output."""
        said: deque[str] = deque(maxlen=_SHOWN_LINES)
        with tempfile.TemporaryFile("w+") as output, self._start(arguments, output.fileno()) as process:
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    self._hear(line.strip(), said)
                status = process.wait()
            except BaseException:
                # The go command's compilers are in its group: interrupting it must not leave them running.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            output.seek(0)
            lines = output.read().splitlines()
        if status != 0:
            raise BuildFailed(
                f"go {arguments[0]} failed for {self._module.name}: " + "\n".join(said),
                hint="sources come from the Go module proxy that GOPROXY names: can this machine reach it, "
                "and does the disk have 5 GB left?",
            )
        return lines

    def _start(self, arguments: list[str], output: int) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                ending_with_us([str(self._toolchain.program), *arguments]),
                cwd=self._module.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise BuildFailed(f"{self._toolchain.program} cannot be run: {error}") from error

    def _hear(self, line: str, said: deque[str]) -> None:
        if _PACKAGE_LINE.fullmatch(line):
            self._progress.compiled(line)
        elif line and not line.startswith("go: downloading"):
            said.append(line)


def _missing(folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if not os.access(folder / name, os.X_OK))
