"""The pages that show `cdmo plan` show what it prints: each command of theirs is run, word for word."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = ("examples/02-what-if/README.md",)
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a page, and the lines that stand below it."""

    page: str
    command: str
    output: str


def shown(page: str) -> list[Shown]:
    """Every command of a page's console blocks."""
    found = []
    for block in _BLOCK.findall((REPOSITORY / page).read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append(Shown(page, command, output))
    return found


@pytest.mark.parametrize("each", [each for page in PAGES for each in shown(page)], ids=lambda each: each.command)
def test_a_command_prints_what_its_page_shows(each: Shown) -> None:
    program, *arguments = shlex.split(each.command)
    assert program == "cdmo"
    script = Path(sys.executable).with_name("cdmo")
    folder = (REPOSITORY / each.page).parent
    result = subprocess.run([script, *arguments], cwd=folder, capture_output=True, text=True, timeout=15, check=False)
    printed = [line.rstrip() for line in (result.stdout + result.stderr).splitlines()]
    assert printed == each.output.splitlines()


def test_every_page_shows_a_command() -> None:
    assert all(shown(page) for page in PAGES)
