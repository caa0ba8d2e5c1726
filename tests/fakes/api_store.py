"""What a fake API server holds: objects by path, versions, and the log of changes that watches replay."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class Refused(Exception):
    """An answer that is not a success."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "details": details or {},
        }


@dataclass(frozen=True)
class Address:
    """A path of the API, taken apart."""

    prefix: str  # api/v1 or apis/group/version
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @classmethod
    def parse(cls, path: str) -> Address:
        """From a path as requests carry it."""
        parts = path.strip("/").split("/")
        head = 2 if parts[0] == "api" else 3
        prefix, rest = "/".join(parts[:head]), parts[head:]
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        return cls(prefix, rest[0], namespace, *rest[1:3])

    def holds(self, other: Address) -> bool:
        """Whether this collection has the other object in it."""
        same = (self.prefix, self.plural) == (other.prefix, other.plural)
        return same and self.namespace in ("", other.namespace)


@dataclass(frozen=True)
class Change:
    """One entry of the log."""

    version: int
    type: str
    address: Address
    object: Json


class Store:
    """Objects with optimistic locking, as the API server has them."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[Address, Json] = {}
        self.log: list[Change] = []
        self.oldest = 0  # versions below are compacted away
        self.on_change: list[Callable[[], None]] = []

    def apply(self, path: str, content: Json) -> Json:
        """Create or replace, whatever is there."""
        address = Address.parse(path)
        kind = "MODIFIED" if address in self.objects else "ADDED"
        return self._write(kind, address, content)

    def delete(self, path: str) -> None:
        """Delete; must be there."""
        address = Address.parse(path)
        self._write("DELETED", address, self.objects[address])

    def compact(self) -> None:
        """Forget the log: older versions answer 410 from now on."""
        self.oldest = self.version
        self.log.clear()

    def get(self, address: Address) -> Json:
        """The object, or Refused 404."""
        try:
            return self.objects[address]
        except KeyError:
            raise Refused(
                404,
                "NotFound",
                f'{address.plural} "{address.name}" not found',
                {"name": address.name, "kind": address.plural},
            ) from None

    def list(self, address: Address, fields: dict[str, str]) -> list[Json]:
        """The collection's objects that match the field selector, by name."""
        found = sorted((one for one in self.objects if address.holds(one)), key=lambda one: (one.namespace, one.name))
        return [self.objects[one] for one in found if _matches(self.objects[one], fields)]

    def create(self, address: Address, content: Json) -> Json:
        """Refused 409 when it is there."""
        meta = content["metadata"]
        name = meta.get("name") or f"{meta['generateName']}{self.version}"
        place = Address(address.prefix, address.plural, address.namespace, name)
        if place in self.objects:
            raise Refused(409, "AlreadyExists", f'{address.plural} "{name}" already exists')
        return self._write("ADDED", place, {**content, "metadata": {**meta, "name": name}})

    def patch(self, address: Address, content_type: str, patch: Any) -> Json:
        """A merge patch, or a JSON patch of `add` operations on top-level fields."""
        place = Address(address.prefix, address.plural, address.namespace, address.name)
        old = self.get(place)
        if content_type == "application/json-patch+json":
            new = {**old, **{one["path"].strip("/"): one["value"] for one in patch}}
        else:
            asked = patch.get("metadata", {}).get("resourceVersion")
            if asked and asked != old["metadata"]["resourceVersion"]:
                raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {address.plural} "{address.name}"')
            new = merged(old, patch)
        return self._write("MODIFIED", place, new)

    def changes_after(self, version: int, address: Address) -> Iterator[Change]:
        """The log from a version on, of one collection."""
        return (one for one in list(self.log) if one.version > version and address.holds(one.address))

    def _write(self, kind: str, address: Address, content: Json) -> Json:
        self.version += 1
        content = copy.deepcopy(content)
        meta = content.setdefault("metadata", {})
        meta.setdefault("name", address.name)
        if address.namespace:
            meta["namespace"] = address.namespace
        meta["resourceVersion"] = str(self.version)
        if kind == "DELETED":
            del self.objects[address]
        else:
            self.objects[address] = content
        self.log.append(Change(self.version, kind, address, content))
        for tell in list(self.on_change):
            tell()
        return content


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def line(kind: str, content: Json) -> bytes:
    """A watch event as it goes over the wire."""
    return json.dumps({"type": kind, "object": content}).encode() + b"\n"


def _matches(content: Json, fields: dict[str, str]) -> bool:
    for path, wanted in fields.items():
        value: Any = content
        for part in path.split("."):
            value = (value or {}).get(part)
        if (value or "") != wanted:
            return False
    return True
