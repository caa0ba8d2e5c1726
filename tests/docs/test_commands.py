"""The documents show what happens: every `cdmo` command in them is run, and prints what stands below it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, REPOSITORY, Shown, shown, type_it

COMMANDS = [each for page in PAGES for each in shown(page)]
CDMO = [each for each in COMMANDS if re.search(r"(^|\| )cdmo ", each.command)]

# Other programs that readers are told to start. Those of make and helm do their work in tests of their own.
OTHERS = {"cd", "helm", "kubectl", "make"}

_SECONDS = re.compile(r"^(real\\ time)(?:\\ )+\d+\\\.\d+(\\ s)$")
_ANY = r".*(?:\n.*)*"


def _name(each: Shown) -> str:
    return f"{each.page}: {each.command}"


@pytest.mark.parametrize("each", CDMO, ids=_name)
def test_a_command_does_what_its_page_shows(each: Shown, tmp_path: Path) -> None:
    result = type_it(each, tmp_path)
    assert result.returncode == 0, result.stdout
    if each.json:
        assert _agrees(json.loads(each.json), json.loads(result.stdout)), result.stdout
    elif each.output.strip():
        printed = "\n".join(line.rstrip() for line in result.stdout.splitlines())
        same = _pattern(each.output).fullmatch(printed) is not None
        assert same, f"{each.page} shows something else than\n{printed}"


def test_every_command_of_a_page_is_one_that_is_known_here() -> None:
    assert {each.program for each in COMMANDS} == OTHERS | {"cdmo"}
    assert {page for page in PAGES if "cdmo plan -f" in (REPOSITORY / page).read_text()} >= {"README.md"}


@pytest.mark.parametrize("each", [each for each in COMMANDS if each.program == "make"], ids=_name)
def test_what_make_is_asked_for_exists(each: Shown) -> None:
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert each.command.split()[1] in targets
    for path in re.findall(r"\b(?:tests|benchmarks)/\S+?(?=[\"'\s]|$)", each.command):
        assert (REPOSITORY / path).exists()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (REPOSITORY / page).read_text())
    assert [each for each in links if not ((REPOSITORY / page).parent / each).exists()] == []


def _pattern(output: str) -> re.Pattern[str]:
    """`…` alone on a line stands for one or more lines; how long something took is not compared."""
    lines = [line.rstrip() for line in output.rstrip("\n").splitlines()]
    return re.compile("\n".join(_ANY if line.strip() == "…" else _line(line) for line in lines))


def _line(line: str) -> str:
    return _SECONDS.sub(r"\1 +[0-9.]+\2", re.escape(line))


def _agrees(page: object, printed: object) -> bool:
    """Whether JSON of a page is what was printed: text that ends in `…` is a beginning, seconds may be others."""
    if isinstance(page, dict) and isinstance(printed, dict):
        same = page.keys() == printed.keys()
        return same and all(key == "planSeconds" or _agrees(page[key], printed[key]) for key in page)
    if isinstance(page, list) and isinstance(printed, list):
        return len(page) == len(printed) and all(map(_agrees, page, printed))
    if isinstance(page, str) and isinstance(printed, str) and page.endswith("…"):
        return printed.startswith(page[:-1])
    return page == printed
