"""The list of packages: everything that dpkg and Python's own metadata find in the image, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cdmo_harness.images import ImageArchive, sbom_of

from cdmo.version import __version__
from tests.image.test_contents import REPOSITORY, SITE_PACKAGES, inside

pytestmark = [pytest.mark.image, pytest.mark.timeout(120)]

LIST_PYTHON = """
from importlib.metadata import distributions
for each in distributions(path=[f"/{path}"]):
    print(each.name + "==" + each.version)
"""


@pytest.fixture(scope="module")
def document(archive: Path) -> dict[str, Any]:
    """As it lies beside the archive."""
    value = json.loads(sbom_of(archive).read_text())
    assert isinstance(value, dict)
    return value


def purls(document: dict[str, Any], kind: str) -> list[str]:
    """The packages of one kind, `name@version`."""
    names = [each["purl"].partition("?")[0] for each in document["components"]]
    return sorted(unquote(each.removeprefix(kind)) for each in names if each.startswith(kind))


def pinned(name: str) -> set[str]:
    """The requirements of a file that apply to the image's Python on Linux."""
    lines = re.findall(r"^(\S+)==(\S+)(?: ; (.*?))? \\$", (REPOSITORY / name).read_text(), re.MULTILINE)
    elsewhere = re.compile(r"sys_platform == 'win32'|sys_platform == 'emscripten'")
    return {f"{package}=={version}" for package, version, marker in lines if not elsewhere.search(marker)}


def test_the_file_beside_the_archive_is_the_one_inside(image: ImageArchive, archive: Path) -> None:
    assert image.read("usr/share/doc/cdmo/sbom.cdx.json") == sbom_of(archive).read_bytes()


def test_it_names_the_debian_packages_that_dpkg_finds(document: dict[str, Any], root: Path) -> None:
    database = f"--admindir={root / 'var/lib/dpkg'}"
    answer = subprocess.run(
        ["dpkg-query", database, "--show", "--showformat=${Package}@${Version}\\n"], capture_output=True, check=True
    )
    expected = sorted(answer.stdout.decode().split())
    assert purls(document, "pkg:deb/debian/") == expected
    wanted = (REPOSITORY / "image" / "debian-packages.txt").read_text().splitlines()
    names = {line.split("#")[0].strip() for line in wanted} - {""}
    assert {each.partition("@")[0] for each in expected} == names


def test_dpkg_finds_every_file_of_the_packages_unchanged(root: Path) -> None:
    answer = subprocess.run(
        ["dpkg", f"--root={root}", "--verify", "--verify-format=rpm"], capture_output=True, text=True, timeout=60
    )
    changed = [line for line in answer.stdout.splitlines() if not line.startswith("missing")]
    assert changed == []
    missing = {line.split()[-1] for line in answer.stdout.splitlines()}
    # What image/root.sh takes out again, and says why.
    removed = re.compile(
        r"/usr/share/(doc|man|info|lintian|locale|gdb|gcc)\b|/usr/lib/[^/]+/gconv\b"
        r"|/lib-dynload/(_curses|_curses_panel|_dbm|_sqlite3|nis|readline)\.cpython-311-[\w-]+\.so$"
    )
    assert missing, "dpkg checked nothing"
    assert {each for each in missing if not removed.search(each)} == set()


def test_it_names_the_python_packages_that_are_installed(document: dict[str, Any], root: Path) -> None:
    answer = inside(root, "python", "-I", "-c", LIST_PYTHON.replace("{path}", SITE_PACKAGES))
    assert answer.returncode == 0, answer.stderr
    installed = sorted(each.lower().replace("_", "-").replace("==", "@") for each in answer.stdout.split())
    subject = document["metadata"]["component"]
    assert subject["purl"] == f"pkg:pypi/cdmo@{__version__}"
    assert sorted([*purls(document, "pkg:pypi/"), subject["purl"].removeprefix("pkg:pypi/")]) == installed


def test_the_python_packages_are_the_pinned_ones(document: dict[str, Any]) -> None:
    found = {each.replace("@", "==") for each in purls(document, "pkg:pypi/")}
    assert found == pinned("requirements/runtime.txt")


def test_every_package_of_python_says_its_licence(document: dict[str, Any]) -> None:
    python = [each for each in document["components"] if each["purl"].startswith("pkg:pypi/")]
    assert [each["name"] for each in python if not each.get("licenses")] == []


def test_every_debian_package_has_its_copyright_file(document: dict[str, Any], root: Path) -> None:
    for each in purls(document, "pkg:deb/debian/"):
        assert (root / "usr/share/doc" / each.partition("@")[0] / "copyright").is_file(), each


def test_it_bears_no_number_or_time_of_chance(document: dict[str, Any], image: ImageArchive) -> None:
    assert document["metadata"]["timestamp"].replace("+00:00", "Z") == image.config["created"]
    assert document["serialNumber"].split("-")[2][0] == "5"  # a UUID made of names, not drawn
