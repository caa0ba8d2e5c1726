"""Lists and watch events as they come over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.errors import ClusterUnavailable
from cdmo.kube import wire
from cdmo.kube.resources import POD, Ask

WATCH = Ask("watch", POD)


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for each in pieces:
        yield each


async def read(*pieces: bytes) -> list[bytes]:
    return [line async for line in wire.lines(chunks(*pieces), WATCH)]


@given(st.lists(st.text(min_size=1, alphabet='a1"\u2028\u0085é').map(str.encode), max_size=5), st.integers(1, 9))
async def test_lines_are_the_same_however_the_network_cuts_them(wanted: list[bytes], size: int) -> None:
    stream = b"".join(each + b"\n" for each in wanted)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert await read(*pieces) == wanted


async def test_empty_lines_are_passed_over() -> None:
    assert await read(b"\n\r\n", b"{}\r\n\n") == [b"{}"]


async def test_a_stream_that_ends_within_a_line_is_a_failure_after_what_came_whole() -> None:
    got = []
    with pytest.raises(ClusterUnavailable, match="could not watch pods: the stream ended in the middle"):
        async for line in wire.lines(chunks(b"{}\n{"), WATCH):
            got.append(line)
    assert got == [b"{}"]


async def test_a_line_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINE_LIMIT", 100)
    with pytest.raises(ClusterUnavailable, match="more than 100 bytes"):
        await read(b"x" * 60, b"x" * 60)


@pytest.mark.parametrize(
    ("raw", "known"),
    [
        (b'{"metadata": {"name": "a", "namespace": "ml", "resourceVersion": "7"}}', ("ml/a", "7")),
        (b'{"metadata": {"name": "gpu-1"}}', ("gpu-1", "")),
        (b'{"metadata": {"namespace": "ml"}}', ("", "")),
        (b'{"metadata": null}', ("", "")),
        (b'{"metadata": {"name": 5}}', ("", "")),
        (b"[]", ("", "")),
    ],
)
def test_an_object_is_known_by_key_and_version_or_not_at_all(raw: bytes, known: tuple[str, str]) -> None:
    assert wire.identity(msgspec.Raw(raw)) == known


def test_an_odd_object_spoils_neither_page_nor_event() -> None:
    page = wire.decode_page(b'{"metadata": {"continue": "more"}, "items": [{"spec": 5}, null]}')
    assert page.metadata.continue_token == "more"
    assert [bytes(each) for each in page.items or ()] == [b'{"spec": 5}', b"null"]
    event = wire.decode_event(b'{"type": "ADDED", "object": 7}')
    assert (event.type, bytes(event.object)) == ("ADDED", b"7")
