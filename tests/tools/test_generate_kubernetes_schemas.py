"""Making strict schemas of OpenAPI documents, and that the committed ones hang together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tools.generate_kubernetes_schemas import KINDS, TARGET, path_of, reduced, strict, text_of
from tools.generated import NotMade

META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
DOCUMENT = {
    "components": {
        "schemas": {
            "Pod": {
                "description": "long",
                "type": "object",
                "properties": {
                    "metadata": {"allOf": [{"$ref": f"#/components/schemas/{META}"}], "default": {}},
                    "spec": {"$ref": "#/components/schemas/Spec"},
                },
                "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
            },
            "Spec": {"type": "object", "properties": {"ports": {"type": "array", "items": {"type": "integer"}}}},
            META: {"type": "object", "properties": {"labels": {"additionalProperties": {"type": "string"}}}},
            "Other": {"type": "object"},
            "Options": {
                "properties": {"kind": {"type": "string"}},
                "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "DeleteOptions"}],
            },
        }
    }
}


def test_a_kind_comes_with_all_that_it_refers_to_and_nothing_else() -> None:
    made = reduced([DOCUMENT], [("v1", "Pod")], "1.99.1")
    assert made["kinds"] == {"v1/Pod": "Pod"}
    assert made["$defs"].keys() == {"Pod", "Spec", META}
    assert (made["version"], made["served"]) == ("1.99.1", ["v1/Pod"])


def test_an_object_has_no_fields_beside_those_that_are_named() -> None:
    made = reduced([DOCUMENT], [("v1", "Pod")], "1.99.1")["$defs"]
    assert made["Pod"]["additionalProperties"] is False
    assert made["Pod"]["properties"]["metadata"] == {"$ref": f"#/$defs/{META}"}
    assert made[META]["properties"]["labels"] == {"additionalProperties": {"type": "string"}}
    assert made["Spec"]["properties"]["ports"] == {"type": "array", "items": {"type": "integer"}}


def test_what_nobody_can_violate_is_left_out() -> None:
    assert strict({"description": "x", "default": 1, "format": "int32", "type": "integer", "x-kubernetes-y": 1}) == {
        "format": "int32",
        "type": "integer",
    }
    assert strict({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}) == {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "format": "int-or-string",
    }


def test_a_kind_that_a_version_does_not_have_stops_it() -> None:
    with pytest.raises(NotMade, match=r"Kubernetes 1\.99\.1 has no v2/Pod"):
        reduced([DOCUMENT], [("v1", "Pod"), ("v2", "Pod")], "1.99.1")


def test_the_text_has_a_line_for_each_definition() -> None:
    made = reduced([DOCUMENT], [("v1", "Pod")], "1.99.1")
    text = text_of(made)
    assert json.loads(text) == made
    assert sum(line.startswith("    ") for line in text.splitlines()) == len(made["$defs"])


def test_there_is_one_file_for_each_minor() -> None:
    assert path_of("1.34.4").name == "kubernetes-1.34.json"


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for each in schema.values():
            yield from references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from references(each)


@pytest.mark.parametrize("path", sorted(TARGET.glob("*.json")), ids=lambda each: each.stem)
def test_every_reference_of_a_committed_file_leads_to_a_definition_of_it(path: Any) -> None:
    content = json.loads(path.read_text())
    wanted = {f"{api_version}/{kind}" for api_version, kind in KINDS}
    assert content["kinds"].keys() == wanted
    assert wanted <= set(content["served"])
    named = {*content["kinds"].values(), *(each.removeprefix("#/$defs/") for each in references(content["$defs"]))}
    assert named == content["$defs"].keys()
    assert path.stat().st_size < 100_000
