"""The failure tree and the drawing of it say the same."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest

from cdmo import errors
from cdmo.errors import CdmoError


@dataclass(frozen=True)
class Drawn:
    """A line of the drawing."""

    parent: str
    retryable: bool


def drawing() -> dict[str, Drawn]:
    """What errors.py draws in its docstring, by class name; a level is four columns deep."""
    found: dict[str, Drawn] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        bare = line.lstrip(" │├└─")
        name = bare.split(" ")[0]
        depth = (len(line) - len(bare)) // 4 - 1
        if not name.isidentifier() or not line.startswith("    "):
            continue
        above = [*above[:depth], name]
        found[name] = Drawn(above[-2] if depth else "Exception", bare.endswith("(retryable)"))
    return found


CLASSES = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, CdmoError)
}


def test_the_drawing_is_the_tree() -> None:
    assert {name: each.parent for name, each in drawing().items()} == {
        name: value.__base__.__name__ for name, value in CLASSES.items()
    }


def test_what_is_marked_retryable_is_retryable_and_nothing_else() -> None:
    assert {name for name, each in drawing().items() if each.retryable} == {
        name for name, value in CLASSES.items() if value.retryable
    }
    assert any(each.retryable for each in drawing().values())


@pytest.mark.parametrize("name", CLASSES)
def test_every_failure_says_what_it_is(name: str) -> None:
    assert "__doc__" in vars(CLASSES[name])
    assert (CLASSES[name].__doc__ or "").strip().endswith(".") or ". " in (CLASSES[name].__doc__ or "")


@pytest.mark.parametrize("name", CLASSES)
def test_every_failure_is_a_sentence_with_a_hint(name: str) -> None:
    error = CLASSES[name]("what happened", hint="what to do")
    assert (str(error), error.hint) == ("what happened", "what to do")
    assert CLASSES[name]("what happened").hint == ""
