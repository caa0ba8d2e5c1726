"""The documents show what happens: every command in them is run, or its test is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.kinds import COMMANDS, ON_A_CLUSTER, ON_A_NODE, Kind, kind_of, name_of, of_kind
from tests.docs.pages import PAGES, PROGRAMS, REPOSITORY, Shown, all_blocks, nobodys_kubeconfig, type_it

_SECONDS = re.compile(r"^(real\\ time)(?:\\ )+\d+\\\.\d+(\\ s)$")
_ANY = r".*(?:\n.*)*"


@pytest.mark.parametrize("each", of_kind(Kind.RUN), ids=name_of)
def test_a_command_does_what_its_page_shows(each: Shown, tmp_path: Path) -> None:
    result = type_it(each, tmp_path)
    assert result.returncode == 0, result.stdout
    if each.json:
        assert _agrees(json.loads(each.json), json.loads(result.stdout)), result.stdout
    elif each.output.strip():
        printed = "\n".join(line.rstrip() for line in result.stdout.splitlines())
        same = _pattern(each.output).fullmatch(printed) is not None
        assert same, f"{each.page} shows something else than\n{printed}"


def test_nobody_shows_a_command_that_no_test_knows() -> None:
    assert [name_of(each) for each in COMMANDS if kind_of(each) is None] == []
    assert {page for page in PAGES if "cdmo plan -f" in (REPOSITORY / page).read_text()} >= {"README.md"}


def test_no_block_of_a_page_hides_a_command_from_these_tests() -> None:
    known = {"", "bash", "console", "csv", "json", "python", "sh", "text", "yaml", "{toctree}"}
    for page in PAGES:
        assert {each.language for each in all_blocks(page)} <= known, page
        indented = re.search(rf"\n\n {{4}}(?:{'|'.join(PROGRAMS)}) ", (REPOSITORY / page).read_text())
        assert indented is None, f"{page} shows a command outside of a block: {indented}"


@pytest.mark.parametrize("listed", [ON_A_NODE, ON_A_CLUSTER], ids=["on a node", "on a cluster"])
def test_what_cannot_be_typed_here_is_shown_and_has_its_test(listed: dict[str, str]) -> None:
    assert listed.keys() <= {each.command for each in COMMANDS}
    for test in listed.values():
        file, _, function = test.partition("::")
        assert f"def {function}" in (REPOSITORY / file).read_text()


@pytest.mark.parametrize("each", of_kind(Kind.DEAD_END), ids=name_of)
def test_cdmo_takes_the_command_and_says_that_nobody_answers(each: Shown, tmp_path: Path) -> None:
    result = type_it(each, tmp_path, {"KUBECONFIG": str(nobodys_kubeconfig(tmp_path))})
    assert result.returncode == 1
    assert re.match(r"error: .+\nhint: .+\n$", result.stdout), result.stdout


@pytest.mark.parametrize("each", of_kind(Kind.OWN), ids=name_of)
def test_what_is_asked_of_this_repository_exists(each: Shown) -> None:
    if each.program == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
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
