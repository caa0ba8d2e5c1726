"""Selectors match as Kubernetes matches, odd ones included."""

from __future__ import annotations

import pytest

from cdmo.model.selectors import Requirement, SelectorTerm, integer, selects, sound


def requirement(key: str, operator: str, *values: str) -> Requirement:
    return Requirement(key, operator, values)


@pytest.mark.parametrize(
    "odd",
    [
        requirement("zone", "In"),
        requirement("zone", "NotIn"),
        requirement("zone", "Exists", "a"),
        requirement("zone", "DoesNotExist", "a"),
        requirement("zone", "Gt"),
        requirement("zone", "Gt", "1", "2"),
        requirement("zone", "Lt", "x"),
        requirement("zone", "Gt", "-1"),  # not a label value, as it begins with a sign
        requirement("zone", "Lt", "9223372036854775808"),
        requirement("zone", "Near", "a"),
        requirement("no/such/key", "DoesNotExist"),
        requirement("", "DoesNotExist"),
        requirement("-zone", "DoesNotExist"),
        requirement("zone", "NotIn", "white space"),
        requirement("zone", "NotIn", "x" * 64),
    ],
)
def test_a_requirement_that_kubernetes_cannot_read_never_holds(odd: Requirement) -> None:
    assert not sound(odd)
    assert not odd.holds({"zone": "5"})
    assert not odd.holds({})


@pytest.mark.parametrize(
    ("key", "value"),
    [("zone", ""), ("example.com/zone", "a_b.c-d"), ("a" * 63, "9" * 63), ("x.y.z/A_b.c", "A")],
)
def test_every_key_and_value_of_a_label_can_be_asked_for(key: str, value: str) -> None:
    assert requirement(key, "In", value).holds({key: value})


def test_an_empty_value_is_not_an_absent_label() -> None:
    assert requirement("disk", "In", "").holds({"disk": ""})
    assert not requirement("disk", "In", "").holds({})
    assert not requirement("disk", "NotIn", "").holds({"disk": ""})
    assert requirement("disk", "NotIn", "").holds({})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("007", 7),
        ("+7", 7),
        ("-7", -7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("1_000", None),
        (" 7", None),
        ("٧", None),
        ("1.5", None),
        ("0x7", None),
        ("", None),
    ],
)
def test_whole_numbers_are_read_as_go_reads_them(text: str, number: int | None) -> None:
    assert integer(text) == number


def test_a_label_that_is_no_number_is_neither_greater_nor_less() -> None:
    for operator in ("Gt", "Lt"):
        assert not requirement("generation", operator, "5").holds({"generation": "x"})
        assert not requirement("generation", operator, "5").holds({})
    assert requirement("generation", "Gt", "5").holds({"generation": "06"})


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (requirement("metadata.name", "In", "n1"), True),
        (requirement("metadata.name", "In", "n2"), False),
        (requirement("metadata.name", "NotIn", "n2"), True),
        (requirement("metadata.name", "In", "n1", "n2"), False),
        (requirement("metadata.name", "Exists"), False),
        (requirement("metadata.uid", "In", "n1"), False),
        (requirement("metadata.uid", "NotIn", "n1"), True),
    ],
)
def test_fields_are_compared_with_one_value_each(field: Requirement, expected: bool) -> None:
    assert SelectorTerm(fields=(field,)).matches({}, "n1") is expected


def test_no_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert not selects(None, {"app": "web"})
    assert selects((), {"app": "web"})
    assert selects((), {})


def test_a_requirement_reads_as_people_write_it() -> None:
    assert str(requirement("app", "In", "web")) == "app=web"
    assert str(requirement("app", "In", "web", "db")) == "app In web,db"
    assert str(requirement("app", "Exists")) == "app"
    assert str(requirement("app", "DoesNotExist")) == "no app"
