"""Nothing from outside moves a terminal's cursor."""

from __future__ import annotations

import pytest

from cdmo.errors import BadInput
from cdmo.text import LONGEST, printable, sentence


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with ümlaut", "plain, with ümlaut"),
        ("two\nlines\there", "two lines here"),
        ("\x1b[2J\x1b]0;owned\x07", "?[2J?]0;owned?"),
        ("\u009b31m", "?31m"),
        ("a\u202eb", "a?b"),
        ("a\x00b\ud800", "a?b?"),
    ],
)
def test_what_is_no_letter_is_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown.isprintable()


def test_a_sentence_has_an_end() -> None:
    assert sentence("x" * LONGEST) == "x" * LONGEST
    assert len(sentence("\n" * 10 * LONGEST)) == LONGEST


def test_a_failure_is_one_printable_line_whatever_others_said() -> None:
    failure = BadInput("the API server says: \x1b[2Jno\nmore", hint="look\x07at it")
    assert str(failure) == "the API server says: ?[2Jno more"
    assert failure.hint == "look?at it"
