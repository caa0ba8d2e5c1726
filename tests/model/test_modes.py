"""Whether CDMO may switch MIG mode on a node."""

from __future__ import annotations

import pytest

from cdmo.model.modes import ModePolicy, policy_of


@pytest.mark.parametrize("default", ModePolicy)
def test_without_an_annotation_the_agents_option_holds(default: ModePolicy) -> None:
    assert policy_of("", default) is default


@pytest.mark.parametrize("default", ModePolicy)
@pytest.mark.parametrize("word", ["manual", "when-idle", "with-reset"])
def test_an_annotation_stands_above_the_option(word: str, default: ModePolicy) -> None:
    assert policy_of(word, default) == word


@pytest.mark.parametrize(
    "word", [" ", "When-Idle", "when-idle ", "with_reset", "WITH_RESET", "true", "\0", "x" * 5000]
)
def test_a_word_that_is_none_switches_nothing_whatever_the_option_allows(word: str) -> None:
    assert policy_of(word, ModePolicy.WITH_RESET) is ModePolicy.MANUAL
