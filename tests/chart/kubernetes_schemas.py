"""Kubernetes' own schemas as tools/generate_kubernetes_schemas.py keeps them, and what they say against an object."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from tests.chart.rendering import Json, identity

FOLDER = Path(__file__).parent / "schemas"
MINORS = tuple(sorted(path.stem.removeprefix("kubernetes-") for path in FOLDER.glob("kubernetes-*.json")))

FORMATS = FormatChecker(formats=())


@FORMATS.checks("int32")
def _int32(value: Any) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@FORMATS.checks("int64")
def _int64(value: Any) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@FORMATS.checks("byte", raises=binascii.Error)
def _byte(value: Any) -> bool:
    return not isinstance(value, str) or bool(base64.b64decode(value, validate=True)) or not value


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a version of Kubernetes has against an object."""

    object: tuple[str, str, str]
    place: str  # field names and positions with dots
    sentence: str


class Schemas:
    """Those of one minor version."""

    def __init__(self, minor: str) -> None:
        self._content: Json = json.loads((FOLDER / f"kubernetes-{minor}.json").read_text())
        self.version: str = self._content["version"]

    def faults(self, item: Json) -> Iterator[Fault]:
        """What is wrong with this object; nothing where it is right."""
        name = f"{item.get('apiVersion')}/{item.get('kind')}"
        if name not in self._content["kinds"]:
            known = name in self._content["served"]
            why = "is not in the schemas: add it to KINDS" if known else f"is nothing that {self.version} has"
            yield Fault(identity(item), "apiVersion", f"{name} {why}")
            return
        for error in self._validator(self._content["kinds"][name]).iter_errors(item):
            yield from _deepest(item, error)

    @cache  # noqa: B019 (as many as there are kinds, for as long as the tests run)
    def _validator(self, definition: str) -> Draft202012Validator:
        schema = {"$ref": f"#/$defs/{definition}", "$defs": self._content["$defs"]}
        return Draft202012Validator(schema, format_checker=FORMATS)


def _deepest(item: Json, error: ValidationError) -> Iterator[Fault]:
    """Of alternatives, none of which fits, the reasons against each; else the fault itself."""
    for each in error.context or ():
        yield from _deepest(item, each)
    if not error.context:
        yield Fault(identity(item), ".".join(map(str, error.absolute_path)), error.message)


@cache
def schemas(minor: str) -> Schemas:
    """Those of 1.34, 1.35 …"""
    return Schemas(minor)
