"""The guide's values, ours and others, on charts from before and after CDI became the default."""

from __future__ import annotations

import pytest

from cdmo.doctor import Status, diagnose
from tests.doctor.recorded import VERSIONS, recorded
from tests.gpu_operator import guide

NEW = [each for each in VERSIONS if each != "25.3.4"]
# Two more ways to live with a new chart: no mounts at all, or a toolkit that reads them although CDI is on.
BY_CDI = guide.ON.replace("      - name", "    - name").replace(
    "    - name: DEVICE_LIST_STRATEGY # Use volume-mounts\n      value: volume-mounts\n", ""
)
BOTH = guide.ON.replace(
    "devicePlugin:",
    "    - name: NVIDIA_RUNTIME_SET_AS_DEFAULT\n      value: 'true'\n"
    "    - name: NVIDIA_CONTAINER_RUNTIME_MODE\n      value: auto\ndevicePlugin:",
)


def errors(chart: str, values: str) -> set[str]:
    found = diagnose(recorded(chart, values).facts())
    return {each.check for each in found if each.status is Status.ERROR}


def test_the_guides_values_are_right_for_the_chart_of_its_time() -> None:
    assert errors("25.3.4", guide.ON) == set()


@pytest.mark.parametrize("chart", NEW)
def test_the_guides_values_alone_are_wrong_for_newer_charts(chart: str) -> None:
    assert errors(chart, guide.ON) == {"cdi"}


@pytest.mark.parametrize("chart", NEW)
@pytest.mark.parametrize("values", ["", BY_CDI, BOTH], ids=["ours", "by-cdi", "both"])
def test_three_ways_out_are_right(chart: str, values: str) -> None:
    assert errors(chart, values) == set()


def test_a_list_in_a_variable_that_the_toolkit_does_not_read_is_an_error() -> None:
    values = guide.ON.replace("value: volume-mounts", "value: envvar")
    assert errors("25.3.4", values) == {"toolkit"}
