"""Versions of the gpu-operator's chart: year, month, patch. What changed for CDMO, and with which of them.

Sources: the chart's values and the operator's controllers at 25.3.4, 25.10.0, 26.3.0 and 26.7.0. From 25.10 on
`cdi.enabled` is true unless it is said to be false; up to 25.3 it was the other way round. Device plugin 0.16, which
came with 24.6, is the first that bears a GPU with MIG on and no slices.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cdmo.errors import BadInput

_FORM = re.compile(r"v?([0-9]{2})\.([0-9]{1,2})(?:\.[0-9]{1,3})?(?:-[0-9A-Za-z.-]{1,40})?")


class ChartVersion(NamedTuple):
    """A version of the chart; patches of one year and month do not differ in what CDMO needs."""

    year: int  # of this century
    month: int

    def __str__(self) -> str:
        return f"{self.year}.{self.month}"


FIRST_USABLE = ChartVersion(24, 6)
LAST_OF_PAGE = ChartVersion(25, 3)  # up to here the page's values do as they stand
CDI_BY_DEFAULT = ChartVersion(25, 10)
LAST_LOOKED_AT = ChartVersion(26, 7)


def chart_version(text: str) -> ChartVersion:
    """`25.10`, `25.10.1` or `v26.3.0-rc.1` as a version. Raises BadInput for any other form."""
    found = _FORM.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 12:
        raise BadInput(
            f"{text!r} is no version of the gpu-operator's chart",
            hint="give year and month as in 25.10 or v26.3.1; `helm list -n gpu-operator` shows the installed one",
        )
    return ChartVersion(int(found[1]), int(found[2]))


def note_on(chart: ChartVersion) -> str:
    """What somebody with this chart should know besides the values; empty for most."""
    if chart < FIRST_USABLE:
        return (
            f"charts before {FIRST_USABLE} bring a device plugin older than 0.16, which ends while a GPU has MIG on "
            "and no slices; take a newer chart or set devicePlugin.version"
        )
    if chart > LAST_LOOKED_AT:
        return f"charts after {LAST_LOOKED_AT} have not been looked at; these are the values for {LAST_LOOKED_AT}"
    return ""
