"""values.yaml as the source: what is read of it, what schema it makes, and what it may not leave out."""

from __future__ import annotations

import pytest

from tools.chart_values import TYPES, ValuesError, read_values, schema

TEXT = """\
# Words about the file.

# A part. # Not a heading.
part:
  # How many,
  # in pieces.
  # @type positive
  count: 2
  # Which.
  # @type a|b
  choice: a
# Loose.
# @type labels
labels: {}
# Told by its default.
enabled: true
"""


def test_a_value_has_the_comment_right_above_it_without_its_type() -> None:
    found = {each.name: each.comment for each in read_values(TEXT)}
    assert found == {
        "part": "A part. # Not a heading.",
        "part.count": "How many, in pieces.",
        "part.choice": "Which.",
        "labels": "Loose.",
        "enabled": "Told by its default.",
    }


def test_a_type_is_a_name_or_words_or_what_the_default_is() -> None:
    found = {each.name: each.sub_schema for each in read_values(TEXT)}
    assert found == {
        "part": None,
        "part.count": TYPES["positive"],
        "part.choice": {"enum": ["a", "b"]},
        "labels": TYPES["labels"],
        "enabled": {"type": "boolean"},
    }


def test_sections_are_closed_and_complete() -> None:
    made = schema(read_values(TEXT))
    assert (made["additionalProperties"], made["required"]) == (False, ["part", "labels", "enabled"])
    part = made["properties"]["part"]
    assert (part["additionalProperties"], part["required"]) == (False, ["count", "choice"])
    assert part["properties"]["count"] == {"description": "How many, in pieces.", **TYPES["positive"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n", "a has no comment"),
        ("# Far away.\n\na: 1\n", "a has no comment"),
        ("# @type port\na: 1\n", "a has no comment"),
        ("# A.\na:\n  b: 1\n", "a.b has no comment"),
        ("# A.\na: {}\n", "a is empty: say what it may be"),
        ("# A.\na: []\n", "what a may be has to be said"),
        ("# A.\n# @type wish\na: 1\n", "a has the type wish, which"),
        ("[]\n", "no mapping"),
    ],
)
def test_what_is_not_said_is_an_error_with_the_keys_name(text: str, said: str) -> None:
    with pytest.raises(ValuesError, match=said):
        read_values(text)
