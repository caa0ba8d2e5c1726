"""Reading the chart's values.yaml: its keys in order, each with its comment, its default and what it may be.

A value is what its comment's "# @type" says (a name below, or the words themselves: a|b|c), else what its default is.
A mapping without "# @type" is a section: nothing but the keys it shows may be in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tools.generated import NotMade

Json = dict[str, Any]

_NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_QUANTITIES: Json = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number"], "pattern": "^[0-9]+([.][0-9]+)?(m|[kMGTP]i?)?$"},
}
_PORT: Json = {"type": "integer", "minimum": 1, "maximum": 65535}
# As the API server wants them, which else refuses a part of the objects when the others are there.
_LABEL = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_LABEL_KEY = f"^([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL}$"


def _text(pattern: str) -> Json:
    return {"type": "string", "pattern": f"^({pattern})?$"}


def _keyed(value: Json) -> Json:
    """Labels or annotations. Not by `propertyNames`: Helm then names another value as the one at fault."""
    return {"type": "object", "patternProperties": {_LABEL_KEY: value}, "additionalProperties": False}


def _record(keys: tuple[str, ...], pattern: str) -> Json:
    """A list of objects with these keys, the first of them a name of this pattern."""
    first, *others = keys
    properties = {first: {"type": "string", "pattern": f"^{pattern}$"}} | {key: {"type": "string"} for key in others}
    item = {"type": "object", "required": list(keys), "additionalProperties": False, "properties": properties}
    return {"type": "array", "items": item, "uniqueItems": True}


# What the names after "# @type" stand for, as JSON Schema. Texts may be empty.
TYPES: dict[str, Json] = {
    "accounts": _record(("namespace", "name"), _NAME),
    "annotations": _keyed({"type": "string"}),
    "digest": _text("sha256:[0-9a-f]{64}"),
    "host": _text("[A-Za-z0-9.:-]+"),
    "labels": _keyed({"type": "string", "pattern": f"^{_LABEL}?$"}),
    "name": _text(_NAME),
    "names": {"type": "array", "items": {"type": "string", "pattern": f"^{_NAME}$"}, "uniqueItems": True},
    "numberOrPercent": {"type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]?%$|^100%$"},
    "object": {"type": "object"},
    "objects": {"type": "array", "items": {"type": "object"}},
    "path": {"type": "string", "pattern": "^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$"},
    "port": _PORT,
    "ports": {"type": "array", "items": _PORT, "minItems": 1, "uniqueItems": True},
    "positive": {"type": "integer", "minimum": 1},
    "registry": _text("[a-z0-9.-]+(:[0-9]+)?"),
    "repository": {"type": "string", "pattern": "^[a-z0-9._-]+(:[0-9]+)?(/[a-z0-9._-]+)*$"},
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
    },
    "seconds": {"type": "number", "minimum": 0},
    "secondsFromOne": {"type": "number", "minimum": 1},
    "tag": _text("[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"),
    "unprivilegedPort": _PORT | {"minimum": 1024},
    "wholeSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
    "variables": _record(("name", "value"), "[A-Za-z_][A-Za-z0-9_]*"),
}

_INFERRED = {bool: "boolean", int: "integer", float: "number", str: "string"}
_MARK = "@type "


class ValuesError(NotMade):
    """values.yaml does not say what it should."""


@dataclass(frozen=True, slots=True)
class Value:
    """One key of values.yaml."""

    path: tuple[str, ...]
    comment: str
    default: Any
    sub_schema: Json | None
    """None for a section, whose keys follow as values of their own."""

    @property
    def name(self) -> str:
        """As `--set` takes it."""
        return ".".join(self.path)


def read_values(text: str) -> list[Value]:
    """Every section and value, in the file's order. Raises ValuesError for one without a comment or of no type."""
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise ValuesError("values.yaml is no mapping")
    return list(_of_mapping(root, (), yaml.safe_load(text), text.splitlines()))


def _of_mapping(node: yaml.MappingNode, path: tuple[str, ...], defaults: Json, lines: list[str]) -> Iterator[Value]:
    for key, content in node.value:
        here = (*path, str(key.value))
        comment, declared = _comment_above(key.start_mark.line, key.start_mark.column, lines)
        if not comment:
            raise ValuesError(f"values.yaml: {'.'.join(here)} has no comment")
        default = defaults[key.value]
        if isinstance(content, yaml.MappingNode) and declared is None:
            if not content.value:
                raise ValuesError(f"values.yaml: {'.'.join(here)} is empty: say what it may be after # @type")
            yield Value(here, comment, default, None)
            yield from _of_mapping(content, here, default, lines)
        else:
            yield Value(here, comment, default, _type(".".join(here), declared, default))


def _comment_above(line: int, column: int, lines: list[str]) -> tuple[str, str | None]:
    """The comment that ends right above this line at the same indentation, and what its @type says."""
    start = line
    while start > 0 and re.match(rf" {{{column}}}#", lines[start - 1]):
        start -= 1
    said = [each[column:].lstrip("#").strip() for each in lines[start:line]]
    declared = [each.removeprefix(_MARK).strip() for each in said if each.startswith(_MARK)]
    return " ".join(each for each in said if not each.startswith("@")), declared[0] if declared else None


def _type(name: str, declared: str | None, default: Any) -> Json:
    if declared is None:
        inferred = _INFERRED.get(type(default))
        if inferred is None:
            raise ValuesError(f"values.yaml: what {name} may be has to be said after # @type")
        return {"type": inferred}
    if "|" in declared:
        return {"enum": declared.split("|")}
    if declared not in TYPES:
        raise ValuesError(f"values.yaml: {name} has the type {declared}, which tools/chart_values.py does not know")
    return TYPES[declared]


def schema(values: list[Value]) -> Json:
    """The JSON Schema of all of them. Keys that are not there are refused."""
    root: Json = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of this chart"}
    root |= _section("")
    for each in values:
        place = root
        for part in each.path[:-1]:
            place = place["properties"][part]
        own = _section(each.comment) if each.sub_schema is None else {"description": each.comment} | each.sub_schema
        place["properties"][each.path[-1]] = own
        place["required"].append(each.path[-1])  # there by default; null in an override takes it away
    # Helm itself hands it to a chart that is part of another one.
    root["properties"]["global"] = {"type": "object"}
    return root


def _section(comment: str) -> Json:
    described = {"description": comment} if comment else {}
    return described | {"type": "object", "additionalProperties": False, "required": [], "properties": {}}
