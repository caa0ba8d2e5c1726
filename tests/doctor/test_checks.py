"""Every planted fault is found by its check and by no other, and a healthy cluster has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdmo.doctor import CHECKS, Finding, Source, Status, diagnose
from cdmo.doctor.checks import table
from tests.docs.pages import REPOSITORY
from tests.doctor.faults import FAULTS, Fault
from tests.doctor.recorded import VERSIONS, Recorded, recorded


def wrong(cluster: Recorded) -> list[Finding]:
    """What is not ok."""
    return [each for each in diagnose(cluster.facts()) if each.status is not Status.OK]


def test_a_healthy_cluster_has_nothing_wrong() -> None:
    assert wrong(recorded()) == []


@pytest.mark.parametrize("chart", VERSIONS)
def test_with_the_values_we_print_only_the_plugins_version_may_be_lacking(chart: str) -> None:
    found = wrong(recorded(chart))
    assert {each.check for each in found} == (set() if chart == "26.7.0" else {"plugin-version"})
    assert all(each.status is Status.WARNING for each in found)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name)
def test_a_planted_fault_is_found_and_nothing_else(fault: Fault) -> None:
    cluster = recorded()
    fault.plant(cluster)
    found = wrong(cluster)
    assert {(each.check, each.status) for each in found} == {(fault.check, fault.status)}, found
    assert any(each.object.endswith(fault.about) for each in found)
    assert all(each.fix and each.sentence for each in found)


def test_every_check_has_a_fault_that_it_finds() -> None:
    planted = {each.check for each in FAULTS}
    elsewhere = {"reading", "gpu-clients"}  # test_rights.py and test_nodes.py
    assert planted | elsewhere == {each.name for each in CHECKS}


def test_every_check_says_something() -> None:
    assert [each.check for each in diagnose(recorded().facts())] == [each.name for each in CHECKS]


@pytest.mark.parametrize("source", Source)
def test_a_check_that_lacks_a_fact_says_so_and_accuses_nobody(source: Source) -> None:
    cluster = recorded()
    cluster.unread[source] = "could not list it: forbidden"
    found = wrong(cluster)
    lacking = {check.name for check in CHECKS if source in check.needs}
    assert {each.check for each in found} == {"reading"} | lacking
    assert {each.status for each in found} == {Status.WARNING}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place within a JSON value: what holds it, and where in it."""
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield value, key
        yield from places(inner)


@settings(max_examples=60)
@given(st.data())
def test_no_odd_object_makes_a_check_fail(data: st.DataObject) -> None:
    cluster = recorded()
    source = data.draw(st.sampled_from(sorted(cluster.objects)))
    found = data.draw(st.sampled_from(sorted(cluster.objects[source].values(), key=str)))
    holder, key = data.draw(st.sampled_from(list(places(found))))
    holder[key] = data.draw(st.sampled_from([None, "", "odd", {}, []]))
    with suppress(msgspec.MsgspecError):  # the reader names the kind as unread then
        assert len(diagnose(cluster.facts())) >= len(CHECKS)


def test_the_page_has_the_table_of_the_code() -> None:
    assert table() in (REPOSITORY / "docs" / "doctor.md").read_text()
