"""What is pinned, and what the pinned files may contain."""

from __future__ import annotations

import re

import pytest

from tools.pin_requirements import OWN_DISTRIBUTION, REQUIREMENTS, TARGETS, Target, direct_requirements, header

NAMES = [target.name for target in TARGETS]
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)
_DIRECT = re.compile(r"^[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    """The one spelling of a distribution's name (the packaging standard's)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> dict[str, str]:
    """Distribution -> version, as pinned in requirements/<name>.txt."""
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    return {canonical(each["name"]): each["version"] for each in _PIN.finditer(text)}


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_every_direct_requirement_is_pinned(target: Target) -> None:
    direct = [_DIRECT.match(line) for line in direct_requirements(target)]
    wanted = {canonical(each[0]) for each in direct if each}
    assert wanted
    assert wanted <= pins(target.name).keys()


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_a_pinned_file_holds_pins_with_hashes_and_nothing_else(target: Target) -> None:
    text = (REQUIREMENTS / f"{target.name}.txt").read_text()
    assert text.startswith(header(target))
    for entry in text.removeprefix(header(target)).replace("\\\n", "").splitlines():
        assert re.fullmatch(r"\S+==[^\\]+?( +--hash=sha256:[0-9a-f]{64})+ *", entry), entry


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_files_that_meet_in_one_environment_agree(target: Target) -> None:
    own = pins(target.name)
    for other in target.agrees_with:
        assert pins(other).items() <= own.items()


def test_the_project_itself_is_never_taken_from_a_registry() -> None:
    harness = Target("harness", projects=("harness/pyproject.toml",))
    assert OWN_DISTRIBUTION not in direct_requirements(harness)
    assert all(OWN_DISTRIBUTION not in pins(name) for name in NAMES)
