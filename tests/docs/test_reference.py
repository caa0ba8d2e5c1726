"""The pages made from the code hold all of it, and say what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cdmo.api import v1alpha1
from cdmo.api.schema import crd
from cdmo.cli.app import app
from cdmo.model import names as constants
from cdmo.model import reasons
from tools.generate_reference import TARGET, made
from tools.generated import NotMade
from tools.reference import events, metrics, names


def text_of(name: str) -> str:
    return (TARGET / name).read_text()


def test_the_committed_pages_are_what_the_code_makes() -> None:
    assert {path: path.read_text() for path in made()} == made()


def commands(*path: str) -> list[tuple[str, ...]]:
    """Every command below one, by what `--help` lists."""
    listed = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"}).output.partition("Commands:\n")[2]
    found = [(*path, name) for name in re.findall(r"^  ([a-z][\w-]*)", listed, re.MULTILINE)]
    return [path, *(each for below in found for each in commands(*below))]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_there_with_every_option_it_takes(command: tuple[str, ...]) -> None:
    title = f"\n## `{' '.join(('cdmo', *command))}`\n"
    part = text_of("cli.md").partition(title)[2].partition("\n## ")[0]
    said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
    options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", said, re.MULTILINE)) - {"--help"}
    assert part
    assert {each for each in options if each not in part} == set()
    for variable in re.findall(r"env var: (\w+)", said):
        assert f"| `{variable}` |" in text_of("cli.md")


def test_no_command_of_the_reference_looks_like_one_to_type() -> None:
    assert "```console" not in text_of("cli.md")


def test_every_field_of_a_mignode_is_there() -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    listed = re.findall(r"^\| `((?:spec|status)[^`]+)` \|", text_of("mignode.md"), re.MULTILINE)

    def leaves(node: dict[str, object]) -> int:
        properties = node.get("properties") or {}
        assert isinstance(properties, dict)
        inside = node.get("items")
        below = leaves(inside) if isinstance(inside, dict) else 0
        return below + sum(1 + leaves(each) for each in properties.values())

    assert len(listed) == len(set(listed)) == leaves(schema["spec"]) + leaves(schema["status"])
    for each in v1alpha1.MigNodeStatus.__struct_fields__:
        assert any(name.split(".")[1].rstrip("[]").lower() == each.replace("_", "") for name in listed), each


def test_every_reason_is_there() -> None:
    text = text_of("events.md")
    for group in events.groups(events.SOURCE.read_text()):
        assert {each.value for each in group.reasons} == {str(each) for each in getattr(reasons, group.name)}
        assert all(f"| `{each.value}` |" in text for each in group.reasons)


def test_an_enumeration_of_reasons_says_what_it_is_for() -> None:
    with pytest.raises(NotMade, match=r"reasons\.py: Odd has no docstring"):
        events.page('class Odd(StrEnum):\n    ONE = "One"  # why\n')


def test_a_name_that_nobody_explained_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ANOTHER_LABEL", "cdmo.clear.ml/another", raising=False)
    with pytest.raises(NotMade, match="do not agree on ANOTHER_LABEL"):
        names.page()


def test_an_explanation_of_a_name_that_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(constants, "MANAGED_LABEL")
    with pytest.raises(NotMade, match="do not agree on MANAGED_LABEL"):
        names.page()


def test_every_label_that_the_product_knows_is_there() -> None:
    source = "".join(path.read_text() for path in Path(constants.__file__).parents[1].rglob("*.py"))
    known = set(re.findall(r"\"(cdmo\.clear\.ml/[\w-]+)\"", source)) - {"cdmo.clear.ml/v1alpha1"}
    assert {each for each in known if f"`{each}" not in text_of("names.md")} == set()


def test_every_metric_is_there_with_its_labels() -> None:
    text = text_of("metrics.md")
    for registry in metrics.registries().values():
        listed = list(metrics.served(registry))
        assert listed
        assert all(each.row in text for each in listed)
    assert "| `cdmo_agent_fences_lapsed_total` | counter |" in text  # as Prometheus stores it
    assert "`code`: `AbsurdCount`" in text
    assert "`le`" not in text
