"""docs/reference/mignode.md: every field of a MigNode, from the schema that the API server gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdmo.api.schema import PRINTER_COLUMNS, crd
from cdmo.model.names import GROUP, VERSION

Json = dict[str, Any]

HEAD = f"""<!-- Generated from src/cdmo/api/v1alpha1.py by tools/generate_reference.py (`make crd`); do not edit. -->

# MigNode

`{GROUP}/{VERSION}`, one for each labelled Node, of the Node's name; short name `mn`. The controller makes
it and writes `spec.gpus` and `spec.observedRevision`. `spec.mode` is yours. The node's agent writes `status`.

`[]` stands for each item of a list. A field without "required" may be left out.

"""


def page() -> str:
    """The text of the page."""
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    parts = [HEAD]
    for name in ("spec", "status"):
        schema = root["properties"][name]
        parts.append(f"## {name}\n\n{schema['description']}\n\n| Field | Type | Means |\n|---|---|---|\n")
        parts += [f"| `{path}` | {_type(each)} | {means} |\n" for path, each, means in _fields(name, schema)]
        parts.append("\n")
    parts.append("## What `kubectl get mignodes` shows\n\n| Column | Field | Means |\n|---|---|---|\n")
    parts += [f"| {name} | `{path}` | {means or 'since it was made'} |\n" for name, _, path, means in PRINTER_COLUMNS]
    return "".join(parts)


def _fields(path: str, schema: Json) -> Iterator[tuple[str, Json, str]]:
    required = schema.get("required", ())
    for name, each in schema["properties"].items():
        here = f"{path}.{name}"
        item = each
        while item["type"] == "array":
            here, item = f"{here}[]", item["items"]
        yield here, each, _means(each, item, name in required)
        if item["type"] == "object":
            yield from _fields(here, item)


def _means(field: Json, item: Json, required: bool) -> str:
    said = str(field.get("description") or item.get("description", "")).replace("|", "or").rstrip(".")
    words = said[:1].upper() + said[1:] if said.partition(" ")[0].isalpha() else said
    return ". ".join(filter(None, (words, "Required" if required else "")))


def _type(field: Json) -> str:
    match field["type"]:
        case "array":
            most = field.get("maxItems")
            return f"list of {_type(field['items'])}" + (f", at most {most}" if most else "")
        case "integer" if "maximum" in field:
            return f"integer, {field.get('minimum', 0)} to {field['maximum']}"
        case "string" if "enum" in field:
            return " or ".join(f"`{each}`" for each in field["enum"])
        case kind:
            return str(kind)
