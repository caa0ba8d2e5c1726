"""The override files: word for word the guide's where that works, and a reason for every line that is not there."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from cdmo.gpu_operator import ChartVersion, Distribution, Wanted, override
from cdmo.kube.yaml_values import yaml_documents
from tests.gpu_operator import guide

OLD, NEW = ChartVersion(25, 3), ChartVersion(25, 10)
EVERY = [Wanted(*each) for each in product((True, False), Distribution, (None, OLD, NEW))]


def value_of(text: str) -> Any:
    (document,) = yaml_documents(text.encode())
    assert document.repeated == ()
    return document.value


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


@pytest.mark.parametrize(("mig", "text"), [(True, guide.ON), (False, guide.OFF)], ids=["on", "off"])
def test_for_charts_up_to_25_3_the_files_are_the_guides_word_for_word(mig: bool, text: str) -> None:
    assert lines_of(override(Wanted(mig, chart=OLD))) == text.splitlines()


@pytest.mark.parametrize("chart", [None, NEW, ChartVersion(26, 7)])
@pytest.mark.parametrize(("mig", "text"), [(True, guide.ON), (False, guide.OFF)], ids=["on", "off"])
def test_newer_charts_get_cdi_off_and_nothing_else(mig: bool, text: str, chart: ChartVersion | None) -> None:
    assert value_of(override(Wanted(mig, chart=chart))) == {**value_of(text), "cdi": {"enabled": False}}


@pytest.mark.parametrize("mig", [True, False], ids=["on", "off"])
@pytest.mark.parametrize(
    ("where", "entries"), [(Distribution.K3S, guide.K3S), (Distribution.MICROK8S, guide.MICROK8S)], ids=str
)
def test_a_distributions_entries_stand_in_the_one_list(
    where: Distribution, entries: list[tuple[str, str]], mig: bool
) -> None:
    plain, here = value_of(override(Wanted(mig))), value_of(override(Wanted(mig, where)))
    added = [{"name": name, "value": value} for name, value in entries]
    assert here["toolkit"]["env"] == plain["toolkit"]["env"] + added
    assert {**here, "toolkit": None} == {**plain, "toolkit": None}


@pytest.mark.parametrize("wanted", EVERY, ids=str)
def test_every_line_that_the_guide_lacks_has_a_reason_above_it(wanted: Wanted) -> None:
    own = {f"{indent}{line}" for indent in ("", "  ", "    ") for line in (guide.ON + guide.OFF).splitlines()}
    if wanted.mig:  # where the guide has its notes
        own |= {f"    - name: {name}" for name, _ in guide.K3S + guide.MICROK8S}
        own |= {f'      value: "{value}"' for _, value in guide.K3S + guide.MICROK8S}
    explained = False
    for line in override(wanted).splitlines():
        explained = line.lstrip().startswith("#") or (explained and line not in own)
        assert explained or line in own


@pytest.mark.parametrize("wanted", EVERY, ids=str)
def test_every_value_of_an_environment_variable_is_text(wanted: Wanted) -> None:
    values = value_of(override(wanted))
    for part in ("toolkit", "devicePlugin"):
        assert all(isinstance(each["value"], str) for each in values[part]["env"])


@pytest.mark.parametrize("wanted", EVERY, ids=str)
def test_the_head_of_a_file_says_how_it_is_used(wanted: Wanted) -> None:
    head = override(wanted).splitlines()[:2]
    assert ("helm install" if wanted.mig else "helm upgrade") in head[1]
    assert max(map(len, override(wanted).splitlines())) <= 120
