"""Odd answers of a driver become values that a MigNode can hold, or a failure of that GPU alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cdmo.errors import DriverFault
from cdmo.hardware.nvml_values import bounded, bus_id_of, placement_of, profile_of
from cdmo.model.gpu import Placement
from cdmo.model.profile import Profile

_COUNTS = ("decoderCount", "encoderCount", "jpegCount", "ofaCount")


def profile(places: list[tuple[int, int]], **changed: Any) -> Profile | None:
    """A 1g.10gb with these placements as (start, size)."""
    fields = {"id": 19, "sliceCount": 1, "instanceCount": 7, "memorySizeMB": 9856, "name": "MIG 1g.10gb"}
    return profile_of(SimpleNamespace(**fields | dict.fromkeys(_COUNTS, 0) | changed), places)


def test_text_is_cut_and_can_be_printed() -> None:
    assert bounded("NVIDIA\x1b[2J\0" + "x" * 200) == ("NVIDIA?[2J?" + "x" * 200)[:96]


@pytest.mark.parametrize("text", ["", "0000:10:00.0", "00000000:10:00.8", "../../../etc:1", "00000000:10:00.0\n"])
def test_a_gpu_that_is_named_by_no_bus_id_cannot_be_told_from_others(text: str) -> None:
    with pytest.raises(DriverFault, match="no PCI bus id"):
        bus_id_of(text)
    assert bus_id_of("00000000:af:00.0") == "00000000:AF:00.0"


@pytest.mark.parametrize(("number", "start"), [(1024, 0), (-1, 0), (19, 32), (19, 2**32 - 1)])
def test_an_instance_at_a_place_that_no_card_has_is_a_fault(number: int, start: int) -> None:
    with pytest.raises(DriverFault, match="which no card has"):
        placement_of(number, start)
    assert placement_of(19, 6) == Placement(19, 6)


def test_a_profile_that_no_card_can_have_is_left_out() -> None:
    assert profile([]) is None
    assert profile([(32, 1)]) is None
    assert profile([(0, 1)], id=1024) is None


def test_a_profile_is_made_to_fit_what_can_be_reported() -> None:
    made = profile([(0, 1), (0, 1), (3, 1)], name="MIG " + "n" * 200, memorySizeMB=2**64 - 1, instanceCount=10**6)
    assert made is not None
    assert (made.starts, made.max_instances, len(made.name), made.memory_mib) == ((0, 3), 2, 63, 2**43)
