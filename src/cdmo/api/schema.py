"""The CustomResourceDefinition, generated from the types: `python -m cdmo.api.schema [--write | --check]`.

A structural schema may hold no references, so every type is written out in place. What the types cannot say
(lists keyed by a field) stands in LIST_KEYS: a duplicate key is refused by the API server.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from cdmo.api.v1alpha1 import MigNode, MigNodeSpec, MigNodeStatus
from cdmo.model.names import GROUP, VERSION

# (type, field) -> keys. Two instances at one start always overlap, so `start` is the key of a layout.
LIST_KEYS: dict[tuple[str, str], list[str]] = {
    ("MigNodeSpec", "gpus"): ["pciBusId"],
    ("GpuLayout", "layout"): ["start"],
    ("GpuLayout", "withheld"): ["start"],
    ("MigNodeStatus", "gpus"): ["pciBusId"],
    ("MigNodeStatus", "conditions"): ["type"],
}
PRINTER_COLUMNS = [
    ("GPUs", "integer", ".status.summary.gpus", "GPUs with MIG on"),
    ("Slices", "string", ".status.summary.slices", "slices in use / existing"),
    ("Free", "integer", ".status.summary.freeSlots", "memory slots without an instance"),
    ("Phase", "string", ".status.summary.phase", "what the agent is doing"),
    ("Age", "date", ".metadata.creationTimestamp", ""),
]


def crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition as a plain object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"mignodes.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {"kind": "MigNode", "plural": "mignodes", "singular": "mignode", "shortNames": ["mn"]},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*each) for each in PRINTER_COLUMNS],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def yaml_text() -> str:
    """The generated file, byte for byte."""
    head = "# Generated from src/cdmo/api/v1alpha1.py by `make crd`; do not edit.\n"
    return head + msgspec.yaml.encode(crd()).decode()


def _column(name: str, kind: str, path: str, description: str) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "description": description} if description else column


def _root() -> dict[str, Any]:
    return {
        "type": "object",
        "description": (MigNode.__doc__ or "").strip(),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _schema(inspect.type_info(MigNodeSpec)),
            "status": _schema(inspect.type_info(MigNodeStatus)),
        },
    }


def _schema(kind: inspect.Type) -> dict[str, Any]:
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return {**_schema(inner), **(extra or {})}
        case inspect.StructType():
            return _object(kind)
        case inspect.VarTupleType(item_type=item, max_length=limit):
            schema: dict[str, Any] = {"type": "array", "items": _schema(item)}
            return {**schema, "maxItems": limit} if limit is not None else schema
        case inspect.StrType(max_length=limit, pattern=pattern):
            bounds = {"maxLength": limit, "pattern": pattern}
            return {"type": "string"} | {key: value for key, value in bounds.items() if value is not None}
        case inspect.IntType(ge=least, le=most):
            bounds_of_int = {"minimum": least, "maximum": most}
            return {"type": "integer", "format": "int64"} | {
                key: value for key, value in bounds_of_int.items() if value is not None
            }
        case inspect.FloatType():
            return {"type": "number"}
        case inspect.EnumType(cls=words):
            return {"type": "string", "enum": [str(each) for each in words]}
        case inspect.UnionType(types=types):
            present = [each for each in types if not isinstance(each, inspect.NoneType)]
            return {**_schema(present[0]), "nullable": True}
    raise TypeError(f"no OpenAPI form for {kind!r}")


def _object(struct: inspect.StructType) -> dict[str, Any]:
    properties = {}
    for each in struct.fields:
        properties[each.encode_name] = schema = _schema(each.type)
        keys = LIST_KEYS.get((struct.cls.__name__, each.name))
        if keys:
            schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
        elif schema["type"] == "array":
            schema["x-kubernetes-list-type"] = "atomic"
    schema = {"type": "object", "description": (struct.cls.__doc__ or "").strip(), "properties": properties}
    required = [each.encode_name for each in struct.fields if each.required]
    return {**schema, "required": required} if required else schema


def main(arguments: list[str]) -> int:
    """Print the CRD; `--write FILE` writes it, `--check FILE` exits 1 when the file is stale."""
    match arguments:
        case []:
            sys.stdout.write(yaml_text())
        case ["--write", path]:
            Path(path).write_text(yaml_text())
        case ["--check", path]:
            if not Path(path).is_file() or Path(path).read_text() != yaml_text():
                sys.stderr.write(f"error: {path} is not what the types say\nhint: run `make crd`, commit the file\n")
                return 1
        case _:
            sys.stderr.write("error: unknown arguments\nhint: use [--write FILE | --check FILE]\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
