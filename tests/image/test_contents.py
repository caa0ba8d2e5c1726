"""What is in the image, what is not, and that it works by itself."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cdmo_harness.binaries import cache_root
from cdmo_harness.images import ImageArchive
from cdmo_harness.images.inputs import revision
from cdmo_harness.images.machine import this_machine

from cdmo.version import __version__
from tools import check_portable

pytestmark = [pytest.mark.image, pytest.mark.timeout(120)]

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "clearml-dynamic-mig-operator"
SITE_PACKAGES = "opt/cdmo/lib/python3.11/site-packages"
LIMIT_BYTES = 150_000_000

# Imports every module of a package but those that run when imported, or need an extra that the image has not.
IMPORT_ALL = """
import importlib, pkgutil, cdmo
for each in pkgutil.walk_packages(cdmo.__path__, "cdmo."):
    if each.name not in ("cdmo.__main__", "cdmo.cli._plot"):
        importlib.import_module(each.name)
"""
# Prints which modules of the standard library cannot be imported.
IMPORT_STANDARD = """
import contextlib, importlib, io, sys
for name in sorted(sys.stdlib_module_names - {"antigravity", "this"}):
    try:
        importlib.import_module(name)
    except ImportError:
        print(name)
"""
ELSEWHERE = {  # for other systems, or in Debian packages of their own
    *("_msi", "_overlapped", "_scproxy", "_winapi", "msilib", "msvcrt", "nt", "winreg", "winsound"),
    *("_gdbm", "_tkinter", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo"),
}
REMOVED = {"_curses", "_curses_panel", "_dbm", "_sqlite3", "curses", "nis", "readline", "sqlite3"}  # by image/root.sh


def inside(root: Path, *command: str, user: int = 65532) -> subprocess.CompletedProcess[str]:
    """Run a program of the image in its own root, with the variables that the image sets and no others."""
    return subprocess.run(
        ["/usr/sbin/chroot", f"--userspec={user}:{user}", root, *command],
        env={"PATH": "/opt/cdmo/bin:/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def files_of(root: Path) -> Iterator[Path]:
    """Every regular file."""
    for folder, _, names in os.walk(root):
        yield from (
            path for path in (Path(folder, name) for name in names) if path.is_file() and not path.is_symlink()
        )


def upstream_files(root: Path) -> set[str]:
    """Paths of the files that are byte for byte those of a Debian package or a wheel."""
    found = set()
    for sums in (root / "var/lib/dpkg/info").glob("*.md5sums"):
        for line in sums.read_text().splitlines():
            digest, _, name = line.partition("  ")
            path = root / name
            if path.is_file() and hashlib.md5(path.read_bytes()).hexdigest() == digest:
                found.add(str(path.resolve().relative_to(root)))
    for record in (root / SITE_PACKAGES).glob("*.dist-info/RECORD"):
        for name, digest, _ in csv.reader(record.read_text().splitlines()):
            path = (root / SITE_PACKAGES / name).resolve()
            kind, _, value = digest.partition("=")
            if kind == "sha256" and path.is_file():
                own = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
                found |= {str(path.relative_to(root))} if own == value else set()
    return found


def test_it_takes_less_than_150_mb(image: ImageArchive) -> None:
    assert 20_000_000 < image.unpacked_bytes < LIMIT_BYTES


def test_it_says_its_version_when_run_as_the_image_says(image: ImageArchive, root: Path) -> None:
    settings = image.config["config"]
    assert settings["Entrypoint"] == ["cdmo"]
    assert "PATH=/opt/cdmo/bin:/usr/bin" in settings["Env"]
    answer = inside(root, *settings["Entrypoint"], "--version")
    assert (answer.stdout, answer.stderr, answer.returncode) == (f"cdmo {__version__}\n", "", 0)


@pytest.mark.parametrize("component", ["agent", "controller"])
def test_the_command_of_the_charts_pods_is_there(root: Path, component: str) -> None:
    template = next((CHART / "templates" / component).glob("d*.yaml")).read_text()
    assert f"command: [cdmo, {component}]" in template
    answer = inside(root, "cdmo", component, "--help", user=0 if component == "agent" else 65532)
    assert answer.returncode == 0
    assert "--log-level" in answer.stdout


def test_every_module_of_the_product_can_be_imported(root: Path) -> None:
    answer = inside(root, "python", "-I", "-W", "error", "-c", IMPORT_ALL)
    assert (answer.stdout, answer.stderr, answer.returncode) == ("", "", 0)


def test_the_standard_library_lacks_only_what_was_taken_out(root: Path) -> None:
    answer = inside(root, "python", "-I", "-c", IMPORT_STANDARD)
    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.split()) == ELSEWHERE | REMOVED


def test_every_shared_library_resolves(root: Path) -> None:
    loader = next(root.glob("usr/lib*/ld-linux*"), None) or next(root.glob("usr/lib/*/ld-linux*"))
    programs = [path for path in files_of(root) if ".so" in path.name or path.parent.name == "bin"]
    elf = [f"/{path.relative_to(root)}" for path in programs if path.read_bytes()[:4] == b"\x7fELF"]
    assert any("cygrpc" in path for path in elf)
    assert "/usr/bin/python3.11" in elf
    for path in elf:
        answer = inside(root, f"/{loader.relative_to(root)}", "--list", path)
        assert "not found" not in answer.stdout + answer.stderr, path
        assert answer.returncode == 0 or "statically linked" in answer.stdout + answer.stderr, (path, answer.stderr)


def test_it_runs_as_nobody_in_particular_as_the_chart_does(image: ImageArchive, root: Path) -> None:
    assert image.config["config"]["User"] == "65532:65532"
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    assert "runAsUser: 65532" in helpers
    assert "runAsGroup: 65532" in helpers
    assert "cdmo:x:65532:65532:" in (root / "etc/passwd").read_text()


def test_only_root_owns_files_and_none_raises_rights(root: Path) -> None:
    for folder, folders, names in os.walk(root):
        for path in (Path(folder, name) for name in folders + names):
            status = path.lstat()
            assert (status.st_uid, status.st_gid) == (0, 0), path
            assert not status.st_mode & 0o6000, path
            assert path.is_symlink() or not status.st_mode & 0o002 or status.st_mode & 0o1000, path


def test_no_compiler_no_pip_no_shell_no_package_manager_is_inside(root: Path) -> None:
    programs = {path.name for folder in ("usr/bin", "usr/sbin", "opt/cdmo/bin") for path in (root / folder).iterdir()}
    assert programs == {"cdmo", "python", "python3", "python3.11"}
    names = {path.name for path in (root / SITE_PACKAGES).iterdir()}
    assert not {"pip", "setuptools", "wheel", "pkg_resources", "hatchling", "cyclonedx"} & names
    assert not list(root.rglob("*.whl"))
    assert not list(root.rglob("cc1*"))


def test_bytecode_is_there_for_every_module_and_never_compared_with_its_source(root: Path) -> None:
    # A file below /etc is imported through a link from Python's library.
    modules = [path for part in ("usr", "opt") for path in (root / part).rglob("*.py") if path.exists()]
    assert len(modules) > 1000
    without = [
        path for path in modules if not (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists()
    ]
    assert [path.name for path in without] == []
    flags = {path.read_bytes()[4:8] for path in root.rglob("*.pyc")}
    assert flags == {b"\x01\x00\x00\x00"}  # PEP 552: hash-based, unchecked


def test_every_file_has_the_time_of_the_commit(image: ImageArchive) -> None:
    made_of = revision(REPOSITORY)
    assert {entry.mtime for _, entry in image.entries()} == {made_of.seconds}


def test_labels_say_what_it_is(image: ImageArchive) -> None:
    prefix = "org.opencontainers.image."
    labels = image.config["config"]["Labels"]
    said = {name.removeprefix(prefix) for name in labels if name.startswith(prefix)}
    assert said == {"title", "description", "version", "revision", "licenses"}
    assert labels[f"{prefix}version"] == __version__
    assert labels[f"{prefix}licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}(-modified)?|unknown", labels[f"{prefix}revision"])


def test_its_name_is_the_charts_default(image: ImageArchive) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["image"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    # A kubelet takes a name without a host as docker.io's.
    expected = f"docker.io/library/{values['repository']}:{values['tag'] or chart['appVersion']}"
    assert image.described["annotations"]["io.containerd.image.name"] == expected


def test_the_dockerfiles_own_version_is_the_products() -> None:
    assert f"\nARG VERSION={__version__}\n" in (REPOSITORY / "Dockerfile").read_text()


def test_nothing_of_the_machine_that_built_it_is_inside(image: ImageArchive, root: Path) -> None:
    machine = this_machine("bookworm", os.environ)
    own = {str(REPOSITORY), str(cache_root(os.environ)), sysconfig.get_config_var("prefix")}
    secret = {value for name, value in os.environ.items() if re.search("TOKEN|SECRET|PASSWORD|_KEY$", name)}
    # A short word would be found in any text.
    wanted = [each.encode() for each in own | secret | set(machine.pip_options.values()) if each and len(each) > 8]
    wanted += [source.split()[1].encode() for source in machine.apt_sources]
    for path in files_of(root):
        content = path.read_bytes()
        found = [each for each in wanted if each in content]
        assert not found, (path, found)
    history = str(image.config).encode()
    assert not [each for each in wanted if each in history]


def test_no_registry_is_named_but_in_the_texts_of_the_packages_authors(image: ImageArchive, root: Path) -> None:
    upstream = upstream_files(root)
    # Bytecode repeats its source, and the SBOM what the packages say of themselves.
    ours = [path for path in files_of(root) if str(path.relative_to(root)) not in upstream and path.suffix != ".pyc"]
    assert {"passwd", "sbom.cdx.json", "status", "pyvenv.cfg"} <= {path.name for path in ours}
    assert len(ours) < 300
    for path in ours:
        assert list(check_portable.findings(path, str(REPOSITORY))) == [], path
    assert "http" not in str(image.config)


def test_no_certificates_of_authorities_are_inside(root: Path) -> None:
    # The API server's comes with the pod's service account; nothing else is called.
    assert not list((root / "etc").rglob("*.pem")) + list((root / "etc").rglob("*.crt"))
