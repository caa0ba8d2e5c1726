"""Files as `kubectl get -o json` and `-o yaml` print them, taken apart into objects.

    file ──> documents ──> List, PodList, … ──> one `Found` an object, still as JSON

What cannot be read is told in a sentence; everything else of the file counts.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from cdmo.api.decoding import decoder
from cdmo.errors import BadInput
from cdmo.kube.yaml_values import encoded, yaml_documents

FILE_LIMIT = 512 * 1024 * 1024  # bytes: 60,000 pods with everything kubectl prints of them
_CLOSE_LOOK = 8 * 1024 * 1024  # bytes up to which JSON is parsed once more: larger files are written by programs
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what a redirection in PowerShell writes

Tell = Callable[[str], None]  # takes one sentence about something that is wrong


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str | None = None
    kind: str | None = None
    metadata: _Metadata | None = None


class _Top(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str | None = None
    kind: str | None = None
    items: list[msgspec.Raw] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An object of a file. `name` and `namespace` are empty where it has none."""

    file: str
    position: int  # of the file among all
    group: str
    kind: str
    namespace: str
    name: str
    version: str  # metadata.resourceVersion
    raw: bytes | msgspec.Raw

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class _Document:
    top: _Top
    raw: bytes | msgspec.Raw
    repeated: tuple[str, ...] = ()  # paths of keys that stand twice


_decode_head = decoder(_Head)
_decode_top = msgspec.json.Decoder(_Top).decode
_ITEM = re.compile(r"items\[(\d+)\]\.?(.*)", re.DOTALL)


def objects_in(path: str, position: int, stdin: BinaryIO, tell: Tell) -> Iterator[Found]:
    """Every object of a file; `-` is `stdin`."""
    name = "standard input" if path == "-" else path

    def tell_here(sentence: str) -> None:
        tell(f"{name}: {sentence}")

    try:
        text = _read(path, stdin)
        if not text.strip():
            raise BadInput("it is empty")
        empty = True
        for document in _documents(text, path):
            empty = False
            yield from _objects(document, name, position, tell_here)
        if empty:
            raise BadInput("it holds no Kubernetes object")
    except BadInput as error:
        tell_here(str(error))


def field_of(error: Exception) -> tuple[str, str]:
    """Where in an object msgspec met what: its path ("" for the object itself) and the rest of the sentence."""
    said, _, where = str(error).partition(" - at `$")
    said = said[:200].replace("`", "").replace(" | null", "")
    return where.rstrip("`").lstrip("."), said[:1].lower() + said[1:]


def _read(path: str, stdin: BinaryIO) -> bytes:
    try:
        if path == "-":
            text = stdin.read(FILE_LIMIT + 1)
        else:
            with Path(path).open("rb") as file:
                text = file.read(FILE_LIMIT + 1)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"it cannot be read: {said}") from error
    if len(text) > FILE_LIMIT:
        raise BadInput(f"it has more than {FILE_LIMIT // 2**20} MiB")
    if text.startswith(_UTF_16):
        return text.decode("utf-16", errors="replace").encode()
    return text.removeprefix(codecs.BOM_UTF8)


def _documents(text: bytes, path: str) -> Iterator[_Document]:
    if text.lstrip()[:1] in (b"{", b"["):
        flow = path.endswith((".yaml", ".yml"))  # YAML may begin with a brace as well
        if not flow or _is_json(text):
            yield from _json_documents(text)
            return
    for each in yaml_documents(text):
        if each.value is not None:  # nothing between two lines of dashes
            yield _yaml_document(each.value, each.repeated)


def _yaml_document(value: Any, repeated: tuple[str, ...]) -> _Document:
    raw = encoded(value)
    return _Document(_top(raw), raw, repeated)


def _is_json(text: bytes) -> bool:
    try:
        _decode_top(text)
    except msgspec.ValidationError:
        return True
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return True


def _json_documents(text: bytes) -> Iterator[_Document]:
    """One document, or several that follow each other as `jq` prints them."""
    try:
        yield _Document(_top(text), text, _repeated(text))
    except msgspec.DecodeError as error:
        if len(text) > _CLOSE_LOOK:
            raise BadInput(f"this is not JSON: {str(error)[:200]}") from error
        for each in _split(text):
            try:
                top = _top(each)
            except msgspec.DecodeError as odd:  # Python's reader takes NaN and Infinity
                raise BadInput(f"this is not JSON: {str(odd)[:200]}") from odd
            yield _Document(top, each, _repeated(each))


def _top(raw: bytes) -> _Top:
    """Raises BadInput for JSON of another form, msgspec.DecodeError for what is no JSON."""
    try:
        return _decode_top(raw)
    except msgspec.ValidationError as error:
        where, said = field_of(error)
        raise BadInput(f"this is no Kubernetes object: {where + ': ' if where else ''}{said}") from error
    except (RecursionError, UnicodeError) as error:
        raise BadInput(f"this is not JSON: {str(error)[:200]}") from error


def _split(text: bytes) -> Iterator[bytes]:
    decode = json.JSONDecoder().raw_decode
    at = 0
    try:
        whole = text.decode()
        while at < len(whole):
            if whole[at].isspace():
                at += 1
                continue
            _, end = decode(whole, at)
            yield whole[at:end].encode()
            at = end
    except json.JSONDecodeError as error:
        cut = " (the file ends there: is it complete?)" if error.pos >= len(error.doc.rstrip()) else ""
        raise BadInput(f"this is not JSON: {error.msg} in line {error.lineno}, column {error.colno}{cut}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"this is not JSON: {str(error)[:200]}") from error


def _repeated(text: bytes) -> tuple[str, ...]:
    """Paths of the keys that stand twice in their object; nobody else would notice."""
    if len(text) > _CLOSE_LOOK:
        return ()
    try:
        found = json.loads(text, object_pairs_hook=_repeats_of)
    except (ValueError, RecursionError):  # only an odd text that msgspec understood: nothing to compare with
        return ()
    return tuple(found) if isinstance(found, _Repeats) else ()


class _Repeats(list[str]):
    """Stands in the place of an object: the paths under it, not its content."""


def _repeats_of(pairs: list[tuple[str, Any]]) -> _Repeats:
    found = _Repeats()
    seen: set[str] = set()
    for key, value in pairs:
        if key in seen:
            found.append(key)
        seen.add(key)
        found.extend(f"{key}{'' if each.startswith('[') else '.'}{each}" for each in _below(value))
    return found


def _below(value: Any) -> Iterator[str]:
    if isinstance(value, _Repeats):
        yield from value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from (f"[{index}]{'' if below.startswith('[') else '.'}{below}" for below in _below(each))


def _objects(document: _Document, name: str, position: int, tell: Tell) -> Iterator[Found]:
    top = document.top
    kind = top.kind or ""
    if kind != "List" and (top.items is None or not kind.endswith("List")):
        found = _found(document.raw, "", top.api_version or "", name, position, "", tell)
        for path in document.repeated if found else ():
            tell(f"{found} {path}: the key stands there twice; the last one counts")
        if found:
            yield found
        return
    repeated: dict[int, list[str]] = {}
    for path in document.repeated:
        match = _ITEM.fullmatch(path)
        if match:
            repeated.setdefault(int(match[1]), []).append(match[2])
        else:
            tell(f"{path}: the key stands there twice; the last one counts")
    for index, raw in enumerate(top.items or ()):
        # Items of a PodList carry no kind of their own when the API server is asked directly.
        found = _found(raw, kind.removesuffix("List"), top.api_version or "", name, position, f"items[{index}]", tell)
        for path in repeated.get(index, ()) if found else ():
            tell(f"{found} {path}: the key stands there twice; the last one counts")
        if found:
            yield found


def _found(
    raw: bytes | msgspec.Raw, kind: str, api_version: str, name: str, position: int, where: str, tell: Tell
) -> Found | None:
    at = f"{where}: " if where else ""
    try:
        head = _decode_head(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        path, said = field_of(error)
        tell(f"{at}this is no Kubernetes object: {path + ': ' if path else ''}{said}")
        return None
    metadata = head.metadata or _Metadata()
    if not (head.kind or kind):
        tell(f"{at}this is no Kubernetes object: it has no kind")
        return None
    group, slash, _ = (head.api_version or api_version).rpartition("/")
    return Found(
        file=name,
        position=position,
        group=group if slash else "",
        kind=head.kind or kind,
        namespace=metadata.namespace or "",
        name=metadata.name or "",
        version=metadata.resource_version or "",
        raw=raw,
    )
