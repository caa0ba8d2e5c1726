"""Paths of one machine and hosts of package registries. Samples are put together here, or this file would fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.checkout import Checkout
from tools.check_portable import findings

ELSEWHERE = "/srv/checkouts/cdmo"


@pytest.mark.parametrize(
    "parts",
    [
        ("/work/", "main/src"),
        ("/work/", "shared"),
        ("/tmp/", "boot/bin"),
        ("/root/", ".cache/cdmo"),
        ("/home/", "ada/", ".config"),
        ("https://py", "pi.org/simple"),
        ("https://files.python", "hosted.org/x.whl"),
        ("GOPROXY=proxy.", "golang.org"),
        ("registry.", "npmjs.org"),
        ("deb.", "debian.org"),
    ],
)
def test_what_belongs_to_one_machine_is_found(tmp_path: Path, parts: tuple[str, ...]) -> None:
    path = Checkout(tmp_path).write("a.md", "first line\nsee " + "".join(parts) + " there\n")
    found = list(findings(path, ELSEWHERE))
    assert [(each.path, each.line) for each in found] == [(path, 2)]
    assert found[0].text in "".join(parts)


@pytest.mark.parametrize(
    "harmless",
    [
        "golang.org/x/sys v0.30.0 h1:abc",
        "docker.io/clearml/agent",
        "/var/lib/kubelet/device-plugins",
        "/host/root/usr/bin",
        "/home/somebody/.cache, whoever that is",
        "a Python package registry has to be reachable",
    ],
)
def test_ordinary_words_are_left_alone(tmp_path: Path, harmless: str) -> None:
    assert list(findings(Checkout(tmp_path).write("a.md", harmless + "\n"), ELSEWHERE)) == []


def test_the_checkouts_own_folder_is_found_wherever_it_lies(tmp_path: Path) -> None:
    path = Checkout(tmp_path).write("a.md", f"cd {ELSEWHERE}\n")
    assert [each.text for each in findings(path, ELSEWHERE)] == [ELSEWHERE]


def test_a_binary_file_is_not_read(tmp_path: Path) -> None:
    path = Checkout(tmp_path).write("a.bin", b"\0" + "".join(("/work/", "main")).encode())
    assert list(findings(path, ELSEWHERE)) == []


def test_the_patterns_do_not_match_themselves() -> None:
    source = Path(findings.__code__.co_filename)
    assert list(findings(source, ELSEWHERE)) == []
