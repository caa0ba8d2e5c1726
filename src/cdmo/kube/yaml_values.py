"""YAML as Kubernetes reads it, as plain values: strings, whole numbers, floats, booleans, null, lists, dicts.

Built from the parser's events alone: no tag makes an object, and what aliases repeat is counted before it grows.
Scalars are resolved as Kubernetes' own library does it. PyYAML would make a number to the base of 60 of a PCI bus
id and a date of a label; both stay text here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml

from cdmo.errors import BadInput

DEPTH_LIMIT = 100  # levels of nesting; Kubernetes' own objects stay below 30
REPEAT_LIMIT = 4 * 1024 * 1024  # characters that the aliases of one document may repeat

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast, where there is one
_TAG = "tag:yaml.org,2002:"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {
    **dict.fromkeys(("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0x[0-9a-fA-F]{1,16}|0o?[0-7]{1,22}|0b[01]{1,64}|0|[1-9][0-9_]{0,30})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Yaml:
    """One document: its value, and the paths of keys that stand twice in their mapping."""

    value: Any
    repeated: tuple[str, ...]


def yaml_documents(text: bytes) -> Iterator[Yaml]:
    """Every document of a file, in order. Elements of a top-level list `items` come as `msgspec.Raw` JSON.

    Raises BadInput, with the line, at the first place that cannot be read; what was given out before holds.
    """
    build: _Build | None = None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                build = _Build()
            elif isinstance(event, yaml.DocumentEndEvent):
                assert build is not None
                yield Yaml(build.value, tuple(build.repeated))
            elif build is not None and not isinstance(event, yaml.StreamEndEvent):
                build.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise BadInput(f"this is not YAML: {error.problem or error.context}{where}") from error
    except (yaml.YAMLError, UnicodeError, ValueError, OverflowError) as error:
        raise BadInput(f"this is not YAML: {' '.join(str(error).split())[:200]}") from error


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read."""

    value: Any
    path: str
    anchor: str | None
    key: str | None = None  # of a mapping: what the next value belongs to
    seen: set[str] = field(default_factory=set)  # of a mapping: its own keys, not merged ones
    size: int = 1


class _Build:
    """One document from its events."""

    def __init__(self) -> None:
        self.value: Any = None
        self.repeated: list[str] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                size = len(event.value) + 1
                if self._expects_key():
                    self._take_key(event.value, event)
                    return
                value = _scalar(event)
                self._remember(event.anchor, value, size)
                self._add(value, size)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._open(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)

    def _expects_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.value, dict) and top.key is None

    def _take_key(self, key: str, event: Any) -> None:
        top = self._stack[-1]
        if key in top.seen:
            self.repeated.append(f"{top.path}.{key}".lstrip("."))
        if not (key == "<<" and not event.style):
            top.seen.add(key)
        top.key = key
        self._remember(event.anchor, key, len(key) + 1)

    def _open(self, event: Any) -> None:
        if self._expects_key():
            raise BadInput(f"this is not a Kubernetes object: a key in {_line(event)} is no text")
        if event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
            raise BadInput(f"the tag {event.tag[:80]!r} in {_line(event)} is not allowed")
        if len(self._stack) >= DEPTH_LIMIT:
            raise BadInput(f"{_line(event)} is nested deeper than {DEPTH_LIMIT} levels")
        value: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self._stack.append(_Open(value, self._path(), event.anchor))

    def _path(self) -> str:
        if not self._stack:
            return ""
        top = self._stack[-1]
        return f"{top.path}[{len(top.value)}]" if isinstance(top.value, list) else f"{top.path}.{top.key}".lstrip(".")

    def _close(self) -> None:
        done = self._stack.pop()
        self._remember(done.anchor, done.value, done.size)
        value = done.value
        if len(self._stack) == 2 and self._stack[-1].path == "items":
            # Bytes take a tenth of the memory, and that is the form in which an object is read further.
            value = msgspec.Raw(encoded(value))
        self._add(value, done.size)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise BadInput(f"the alias *{event.anchor[:80]} in {_line(event)} names nothing that was read before it")
        value, size = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > REPEAT_LIMIT:
            raise BadInput(f"the aliases up to {_line(event)} repeat more than {REPEAT_LIMIT} characters")
        if self._expects_key():
            raise BadInput(f"this is not a Kubernetes object: a key in {_line(event)} is an alias")
        self._add(value, size)

    def _remember(self, anchor: str | None, value: Any, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)

    def _add(self, value: Any, size: int) -> None:
        if not self._stack:
            self.value = value
            return
        top = self._stack[-1]
        top.size += size
        if isinstance(top.value, list):
            top.value.append(value)
            return
        key, top.key = top.key or "", None
        if key == "<<" and key not in top.seen:
            self._merge(top, value)
        else:
            top.value[key] = value

    def _merge(self, top: _Open, value: Any) -> None:
        """`<<: *base`: keys of another mapping, which the mapping's own ones override."""
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, dict):
                raise BadInput(f"`<<` in {top.path or 'the document'} merges something that is no mapping")
            for key, content in each.items():
                if key not in top.seen:
                    top.value.setdefault(key, content)


def encoded(value: Any) -> bytes:
    """A value as JSON. Raises BadInput for what JSON cannot hold."""
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"this cannot be said in JSON: {str(error)[:200]}") from error


def _scalar(event: Any) -> Any:
    text: str = event.value
    tag = event.tag
    if tag == _TAG + "str" or tag == "!" or (tag is None and event.style):
        return text
    if tag not in (None, *(_TAG + name for name in ("null", "bool", "int", "float"))):
        raise BadInput(f"the tag {tag[:80]!r} in {_line(event)} is not allowed")
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def _integer(text: str) -> int:
    plain = text.replace("_", "")
    digits = plain.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    return int(plain, 8) if octal else int(plain, 0)


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
