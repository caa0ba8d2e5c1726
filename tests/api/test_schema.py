"""The CustomResourceDefinition: current, structural, with a type for every field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdmo.api import schema
from cdmo.api.v1alpha1 import MigNode

FILE = Path(__file__).parents[2] / "deploy" / "crds" / "mignodes.yaml"


def version() -> dict[str, Any]:
    (only,) = schema.crd()["spec"]["versions"]
    return only  # type: ignore[no-any-return]


def nodes(here: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in the tree with its path."""
    yield path, here
    for name, child in here.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in here:
        yield from nodes(here["items"], f"{path}[]")


ALL = dict(nodes(version()["schema"]["openAPIV3Schema"]))


def test_the_committed_file_is_what_the_types_say() -> None:
    assert FILE.read_text() == schema.yaml_text()
    assert msgspec.yaml.decode(FILE.read_text()) == schema.crd()


@pytest.mark.parametrize("path", ALL)
def test_every_field_has_a_type_and_no_reference(path: str) -> None:
    field = ALL[path]
    assert field["type"] in ("object", "array", "string", "integer", "number", "boolean")
    assert not {"$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "title"} & field.keys()
    assert ("items" in field) == (field["type"] == "array")


def test_every_list_says_how_it_is_merged_and_keys_are_required_fields() -> None:
    lists = {path: field for path, field in ALL.items() if field["type"] == "array"}
    keyed = {}
    for path, field in lists.items():
        if field["x-kubernetes-list-type"] == "map":
            keyed[path] = field["x-kubernetes-list-map-keys"]
            assert set(keyed[path]) <= set(field["items"]["required"])
        else:
            assert field["x-kubernetes-list-type"] == "atomic"
    assert keyed == {
        ".spec.gpus": ["pciBusId"],
        ".spec.gpus[].layout": ["start"],
        ".spec.gpus[].withheld": ["start"],
        ".status.gpus": ["pciBusId"],
        ".status.conditions": ["type"],
    }


def test_every_list_and_string_from_outside_is_bounded() -> None:
    for path, field in ALL.items():
        if field["type"] == "array" and path:
            assert "maxItems" in field, path
        if field["type"] == "string" and path.startswith((".spec", ".status")):
            assert {"maxLength", "enum", "pattern"} & field.keys(), path


def test_what_the_types_demand_the_schema_demands() -> None:
    assert ALL[".spec.gpus[].layout[]"]["required"] == ["profileId", "start"]
    assert ALL[".spec.gpus[]"]["required"] == ["pciBusId"]  # `withheld` came later: old objects stay valid
    assert ALL[".spec.gpus[].layout[].start"]["minimum"] == 0
    assert ALL[".spec.mode"]["enum"] == ["Managed", "Disabled"]
    assert ALL[".status.agent"]["nullable"] is True
    assert "memoryMiB" in ALL[".status.models[].profiles[]"]["properties"]


def test_status_is_a_subresource_and_the_kind_is_the_types_own() -> None:
    assert version()["subresources"] == {"status": {}}
    crd = schema.crd()["spec"]
    assert MigNode().api_version == f"{crd['group']}/{version()['name']}"
    assert MigNode().kind == crd["names"]["kind"]


@pytest.mark.parametrize("name,kind,path,_", schema.PRINTER_COLUMNS, ids=lambda each: each or "-")
def test_every_printer_column_shows_a_field_that_is_there(name: str, kind: str, path: str, _: str) -> None:
    assert name
    if path.startswith(".metadata"):
        assert kind == "date"
    else:
        assert ALL[path]["type"] == kind


def test_without_arguments_the_definition_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main([]) == 0
    assert capsys.readouterr().out == schema.yaml_text()


def test_writing_makes_a_file_that_passes_the_check(tmp_path: Path) -> None:
    path = tmp_path / "crd.yaml"
    assert schema.main(["--write", str(path)]) == 0
    assert schema.main(["--check", str(path)]) == 0


@pytest.mark.parametrize("content", [None, "stale: true\n"], ids=["missing", "stale"])
def test_a_stale_or_missing_file_fails_the_check(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "crd.yaml"
    if content is not None:
        path.write_text(content)
    assert schema.main(["--check", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert error == f"error: {path} is not what the types say"
    assert hint == "hint: run `make crd`, commit the file"


def test_unknown_arguments_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--help-me"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown arguments\nhint: ")


def test_a_type_without_an_openapi_form_is_refused_when_the_file_is_made() -> None:
    with pytest.raises(TypeError, match="no OpenAPI form"):
        schema._schema(msgspec.inspect.type_info(bytes))
