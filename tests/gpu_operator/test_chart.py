"""Versions of the gpu-operator's chart, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.errors import BadInput
from cdmo.gpu_operator.chart import ChartVersion, chart_version, note_on


@pytest.mark.parametrize("text", ["25.10", "25.10.0", "v25.10.1", "v25.10.0-rc.2"])
def test_a_version_is_read_in_every_form_that_helm_shows(text: str) -> None:
    assert chart_version(text) == ChartVersion(25, 10)


@pytest.mark.parametrize(
    "text", ["", "latest", "25", "1.11.1", "2025.10", "25.13", "25.0", "25.10.0.1", "25.10\n", "٢٥.3"]
)
def test_what_is_no_version_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BadInput) as failure:
        chart_version(text)
    assert "is no version of the gpu-operator's chart" in str(failure.value)
    assert "25.10" in failure.value.hint


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_one_line(text: str) -> None:
    try:
        assert 1 <= chart_version(text).month <= 12
    except BadInput as failure:
        assert str(failure).isprintable()


def test_versions_follow_each_other_by_year_and_month() -> None:
    assert chart_version("25.3.4") < chart_version("25.10.0") < chart_version("26.3")


def test_a_note_is_made_on_charts_that_are_too_old_or_not_known_yet() -> None:
    assert "device plugin older than 0.16" in note_on(ChartVersion(24, 3))
    assert "have not been looked at" in note_on(ChartVersion(27, 1))
    assert [note_on(ChartVersion(*each)) for each in ((24, 6), (25, 3), (25, 10), (26, 7))] == [""] * 4
