"""YAML as Kubernetes reads it, and what it refuses to become."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdmo.errors import BadInput
from cdmo.kube import yaml_values
from cdmo.kube.yaml_values import Yaml, yaml_documents

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\x85  ￾￿"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers of PyYAML: not every installation has the one in C."""
    assert yaml.__with_libyaml__
    monkeypatch.setattr(yaml_values, "_LOADER", yaml.CSafeLoader if request.param == "C" else yaml.SafeLoader)


def documents(text: str) -> list[Yaml]:
    return list(yaml_documents(text.encode()))


def value(text: str) -> Any:
    (document,) = documents(text)
    return document.value


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1", 1),
        ("0", 0),
        ("-0x1F", -31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("1_000", 1000),
        ("089", 89.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        (".5", 0.5),
        ("true", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("'true'", "true"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("!!int 1", 1),
        ("500m", "500m"),
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("00000000:10:00.0", "00000000:10:00.0"),
        ("12:30", "12:30"),
        ("=", "="),
    ],
)
def test_scalars_are_what_kubernetes_makes_of_them(text: str, read: object) -> None:
    found = value(f"a: {text}")["a"]
    assert found == read
    assert type(found) is type(read)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_was_dumped_is_read_as_it_was(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_style='"')
    (document,) = documents(text)
    assert document.value == value


def test_documents_come_one_by_one_and_those_before_a_broken_one_hold() -> None:
    found = yaml_documents(b"a: 1\n---\n---\nb: [1, 2]\n---\nc: [1\n---\n")
    assert [next(found).value, next(found).value, next(found).value] == [{"a": 1}, None, {"b": [1, 2]}]
    with pytest.raises(BadInput, match=r"this is not YAML: .* in line 7"):
        next(found)


def test_elements_of_items_are_json_and_all_else_is_plain() -> None:
    found = value("kind: List\nitems:\n- {a: 1}\n- b: {items: [x]}\nother: [{c: 1}]\n")
    assert [bytes(each) for each in found["items"]] == [b'{"a":1}', b'{"b":{"items":["x"]}}']
    assert isinstance(found["items"][0], msgspec.Raw)
    assert found["other"] == [{"c": 1}]


def test_aliases_and_merges_are_followed() -> None:
    found = value("base: &b {cpu: 1, memory: 2}\nsame: *b\nmore: {<<: *b, cpu: 3}\nboth: {<<: [*b, {disk: 4}]}\n")
    assert found["same"] == {"cpu": 1, "memory": 2}
    assert found["more"] == {"cpu": 3, "memory": 2}
    assert found["both"] == {"cpu": 1, "memory": 2, "disk": 4}


def test_a_key_that_stands_twice_is_told_with_its_path_and_the_last_one_counts() -> None:
    (document,) = documents("a:\n- b: 1\n- {b: 1, c: 2, b: 3}\nd: {<<: {e: 1}, e: 2}\n")
    assert document.repeated == ("a[1].b",)
    assert document.value["a"][1] == {"b": 3, "c": 2}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BOMB, "the aliases up to line 7 repeat more than 4194304 characters"),
        (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 99)}]\n", "the aliases up to line 2 repeat more than"),
        ("a: &a {b: *a}\n", "the alias *a in line 1 names nothing that was read before it"),
        ("a: *b\n", "the alias *b in line 1 names nothing"),
        ("a: " + "[" * 200, "line 1 is nested deeper than 100 levels"),
        ("a: !!python/object/apply:os.system [x]\n", "the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !secret x\n", "the tag '!secret' in line 1 is not allowed"),
        ("a: !!binary aGk=\n", "the tag 'tag:yaml.org,2002:binary' in line 1"),
        ("? [a, b]\n: 1\n", "a key in line 1 is no text"),
        ("a: {<<: 1}\n", "`<<` in a merges something that is no mapping"),
        ("a: [1, 2\n", "this is not YAML"),
        ("a: b: c\n", "this is not YAML: mapping values are not allowed"),
        ("a: 'x\n", "this is not YAML"),
        ("\x00\x01", "this is not YAML"),
    ],
    ids=lambda each: each[:20],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        documents(text)
    assert complaint in str(refused.value)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadInput, match="this is not YAML"):
        list(yaml_documents(b"a: \xff\xfe\x80\n"))
