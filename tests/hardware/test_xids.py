"""The table of XIDs is whole, and docs/health.md says the same."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from cdmo_harness.plugin.health import APPLICATION_XIDS

from cdmo.hardware.xids import PLUGIN_IGNORES, TABLE, Reach, known, text_of

PAGE = Path(__file__).parents[2] / "docs" / "health.md"


def test_numbers_ascend_and_none_has_two_meanings() -> None:
    assert all(each.first <= each.last for each in TABLE)
    assert all(before.last < after.first for before, after in pairwise(TABLE))


def test_what_the_device_plugin_takes_for_the_applications_own_is_nobodys() -> None:
    assert PLUGIN_IGNORES == APPLICATION_XIDS
    assert {entry.reach for number in PLUGIN_IGNORES if (entry := known(number))} == {Reach.NOBODY}


def test_errors_that_need_a_reset_take_the_whole_gpu() -> None:
    for number in (48, 64, 74, 79, 95, 119, 120, 140):
        entry = known(number)
        assert entry is not None
        assert entry.reach is Reach.GPU
    contained = known(94)
    assert contained is not None
    assert contained.reach is Reach.SLICE


def test_an_xid_is_named_with_its_meaning() -> None:
    assert text_of(94) == "XID 94 (contained memory error)"
    assert text_of(999) == "XID 999 (unknown to CDMO)"


def test_the_page_lists_the_table() -> None:
    rows = re.findall(r"^\| (\d+)(?:–(\d+))? \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    told = [(int(first), int(last or first), reach, meaning) for first, last, reach, meaning in rows]
    assert told == [(each.first, each.last, each.reach.value, each.meaning) for each in TABLE]
