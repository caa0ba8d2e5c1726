"""Lists and watch events as they come over the wire, opened only as far as a reflector needs.

The objects inside stay raw bytes: whether one can be read is asked later, of each by itself, so that an odd
object spoils neither its page nor the watch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from cdmo.api.decoding import decoder
from cdmo.errors import ClusterUnavailable
from cdmo.kube.resources import Ask

# etcd holds objects of up to 1.5 MB by default and the API server takes requests of 3 MB; JSON on the wire may be
# somewhat larger. Longer than this is not an event.
LINE_LIMIT = 16 * 1024 * 1024  # bytes


class _ListMetadata(msgspec.Struct, frozen=True):
    resource_version: str | None = msgspec.field(name="resourceVersion", default=None)
    continue_token: str | None = msgspec.field(name="continue", default=None)


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and its object."""

    type: str
    object: msgspec.Raw


class _IdentityMetadata(msgspec.Struct, frozen=True):
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = msgspec.field(name="resourceVersion", default=None)


class _Identity(msgspec.Struct, frozen=True):
    metadata: _IdentityMetadata | None = None


decode_page = decoder(Page)
decode_event = decoder(WatchEvent)
_decode_identity = decoder(_Identity)


def identity(raw: msgspec.Raw) -> tuple[str, str]:
    """Key ("namespace/name" or "name") and resource version of any object; empty where it has none."""
    try:
        metadata = _decode_identity(raw).metadata or _IdentityMetadata()
    except msgspec.MsgspecError:
        return "", ""
    name = metadata.name or ""
    key = f"{metadata.namespace}/{name}" if metadata.namespace and name else name
    return key, metadata.resource_version or ""


async def lines(chunks: AsyncIterator[bytes], ask: Ask) -> AsyncIterator[bytes]:
    """A stream's lines without their ends. Raises ClusterUnavailable when it ends within a line.

    Split at line feeds alone: text-minded splitters also cut at U+2028 or U+0085, which JSON strings may hold.
    """
    rest = bytearray()
    async for chunk in chunks:
        searched = len(rest)
        rest += chunk
        start = 0
        while (end := rest.find(b"\n", max(start, searched))) >= 0:
            if line := bytes(rest[start:end]).strip():
                yield line
            start = end + 1
        del rest[:start]
        if len(rest) > LINE_LIMIT:
            raise ClusterUnavailable(f"could not {ask}: an event of more than {LINE_LIMIT} bytes arrived")
    if rest.strip():
        raise ClusterUnavailable(f"could not {ask}: the stream ended in the middle of an event")
