"""What of this machine's settings for apt and pip a build gets: where packages come from, and no more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cdmo_harness.errors import ImageNotBuilt
from cdmo_harness.images.machine import Machine, debian_sources, pip_settings, this_machine

INDEXES = """\
Debian|bookworm|deb http://mirror.invalid/debian/ bookworm main
Debian|bookworm|deb http://mirror.invalid/debian/ bookworm main
Debian|bookworm-security|deb http://mirror.invalid/debian-security/ bookworm-security main
Debian|trixie|deb http://mirror.invalid/debian/ trixie main
Node Source|nodistro|deb http://node.invalid/ nodistro main
"""

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="asks apt, which this machine has not")


def test_only_debians_own_sources_of_the_release_are_taken_each_once() -> None:
    assert debian_sources(INDEXES, "bookworm") == (
        "deb http://mirror.invalid/debian/ bookworm main",
        "deb http://mirror.invalid/debian-security/ bookworm-security main",
    )
    assert debian_sources("", "bookworm") == ()


def test_a_variable_of_pip_goes_before_its_file() -> None:
    listing = """\
:env:.index-url='https://variable.invalid/simple'
global.index-url='https://file.invalid/simple'
global.trusted-host='a.invalid\\nb.invalid'
install.index-url='https://install.invalid/simple'
download.index-url='https://download.invalid/simple'
"""
    assert pip_settings(listing) == {
        "index-url": "https://variable.invalid/simple",
        "trusted-host": "a.invalid\nb.invalid",
    }


def test_pips_file_for_the_build_names_certificates_by_where_they_are_mounted(tmp_path: Path) -> None:
    certificates = tmp_path / "own.crt"
    machine = Machine(
        (), (), {"index-url": "https://a.invalid", "trusted-host": "a.invalid\nb.invalid"}, certificates
    )
    text = machine.pip_conf()
    assert "cert = /etc/pip-certificates.crt\n" in text
    assert "trusted-host = a.invalid\n  b.invalid\n" in text
    assert str(tmp_path) not in text
    mounts = machine.volumes(tmp_path / "pip.conf")
    assert f"{certificates}:/etc/pip-certificates.crt:ro" in mounts
    assert f"{tmp_path / 'pip.conf'}:/etc/pip.conf:ro" in mounts


@needs_apt
def test_pips_settings_that_the_build_has_no_use_for_are_left_out() -> None:
    environment = {**os.environ, "PIP_INDEX_URL": "https://own.invalid/simple", "PIP_FIND_LINKS": "/nowhere/wheels"}
    try:
        machine = this_machine("bookworm", environment)
    except ImageNotBuilt as error:
        pytest.skip(str(error))
    assert machine.pip_options["index-url"] == "https://own.invalid/simple"
    assert "find-links" not in machine.pip_options
    assert all(source.startswith("deb ") for source in machine.apt_sources)


@needs_apt
def test_a_release_that_apt_does_not_know_is_refused_with_what_to_do() -> None:
    with pytest.raises(ImageNotBuilt, match="knows no packages of Debian buzz") as caught:
        this_machine("buzz", os.environ)
    assert "apt-get update" in caught.value.hint
