"""docs/troubleshooting.md and the code know the same Events and conditions."""

from __future__ import annotations

import re

from cdmo.model.reasons import ConditionType, EventReason, ReadyReason, WaitingCode
from tests.docs.pages import REPOSITORY
from tools.reference.events import SOURCE, groups

PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
EVENTS = re.compile(r"^\| `(?P<reason>\w+)` \| (?P<on>[^|`]+) \| (?P<do>[^|]+) \|$", re.MULTILINE)
CONDITIONS = re.compile(r"^\| `(?P<type>\w+)` \| `(?P<reason>\w+)` \| [^|]+ \| [^|]+ \|$", re.MULTILINE)


def test_every_event_is_listed_and_none_that_is_gone() -> None:
    part = PAGE.partition("## Every Event\n")[2].partition("\n## ")[0]
    assert sorted(each["reason"] for each in EVENTS.finditer(part)) == sorted(EventReason)


def test_an_event_is_listed_on_the_objects_that_the_code_says() -> None:
    (events,) = (each for each in groups(SOURCE.read_text()) if each.name == "EventReason")
    comments = {each.value: each.comment for each in events.reasons}
    for row in EVENTS.finditer(PAGE.partition("## Every Event\n")[2]):
        for kind in ("Node", "MigNode", "Pod"):
            on = re.search(rf"\b[Oo]n (?:a|each) {kind}\b|, and on each {kind}\b", comments[row["reason"]])
            assert (on is not None) == (re.search(rf"\b{kind}\b", row["on"], re.IGNORECASE) is not None), row[0]


def test_every_condition_is_listed_with_every_reason() -> None:
    listed = [(each["type"], each["reason"]) for each in CONDITIONS.finditer(PAGE)]
    assert len(listed) == len(set(listed))
    assert {kind for kind, _ in listed} == set(ConditionType)
    assert {reason for kind, reason in listed if kind == ConditionType.READY} == set(ReadyReason)
    # Every other enumeration of reasons is of some condition.
    known = {reason for _, reason in listed}
    for group in groups(SOURCE.read_text()):
        if group.name not in ("EventReason", "WaitingCode", "ConditionType"):
            assert {each.value for each in group.reasons} <= known, group.name


def test_the_reasons_of_waiting_pods_are_where_the_page_sends_its_reader() -> None:
    assert "(why-is-my-pod-pending.md)" in PAGE
    there = (REPOSITORY / "docs" / "why-is-my-pod-pending.md").read_text()
    assert {each for each in WaitingCode if f"`{each}`" not in there} == set()
