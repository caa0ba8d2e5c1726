"""One sort of failure, whatever is wrong with the bytes."""

from __future__ import annotations

import msgspec
import pytest

from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import MigNode

decode = decoder(MigNode)


def test_what_is_sound_is_decoded_and_what_is_of_another_type_is_told_with_its_path() -> None:
    assert decode(b'{"metadata": {"name": "gpu-1"}}').metadata.name == "gpu-1"
    with pytest.raises(msgspec.ValidationError, match=r"\$\.metadata\.name"):
        decode(b'{"metadata": {"name": 5}}')


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"metadata": {"name": "\xff"}}', "not UTF-8"),
        (b'{"odd": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"odd": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"metadata": {"name": "\\ud800"}}', "."),
        (b'{"spec": {"observedRevision": ' + b"9" * 5000 + b"}}", "."),
        (b"", "."),
    ],
)
def test_what_cannot_be_read_is_one_sort_of_failure(raw: bytes, why: str) -> None:
    with pytest.raises(msgspec.MsgspecError, match=why):
        decode(raw)
    with pytest.raises(msgspec.MsgspecError, match=why):
        decode(msgspec.Raw(raw))


def test_a_bus_id_has_no_line_break_behind_it() -> None:
    spec = '{"spec": {"gpus": [{"pciBusId": "00000000:10:00.0%s"}]}}'
    assert decode((spec % "").encode()).spec.gpus
    with pytest.raises(msgspec.ValidationError):
        decode((spec % "\\n").encode())
