"""Parts that all decoders share."""

from __future__ import annotations

import msgspec
import pytest

from cdmo.kube.lenient import Expression, NodeSelector, Selector, label_selector, pairs, shared, terms
from cdmo.model.selectors import Requirement, SelectorTerm


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", None),
        ("{}", ()),
        ('{"matchLabels": null, "matchExpressions": null}', ()),
        (
            '{"matchLabels": {"b": "2", "a": null}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}',
            (Requirement("a", "In", ("",)), Requirement("b", "In", ("2",)), Requirement("c", "Exists")),
        ),
    ],
)
def test_a_label_selector_is_its_requirements(text: str, expected: object) -> None:
    assert label_selector(msgspec.json.decode(text, type=Selector | None)) == expected


def test_node_selectors_tell_no_terms_from_no_selector() -> None:
    assert terms(None) is None
    assert terms(NodeSelector()) == ()
    text = '{"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}]}'
    assert terms(msgspec.json.decode(text, type=NodeSelector)) == (
        SelectorTerm((Requirement("a", "Exists"),)),
        SelectorTerm(),
    )


def test_labels_are_pairs_in_order() -> None:
    assert pairs({"b": "2", "a": None}) == (("a", ""), ("b", "2"))
    assert pairs(None) == ()


def test_equal_values_become_one_object() -> None:
    first, second = ((Requirement("a", "In", ("x",)),) for _ in range(2))
    assert first is not second
    assert shared(first) is shared(second)


def test_what_is_unknown_in_an_expression_is_kept_for_the_judgement() -> None:
    assert msgspec.json.decode('{"key": "a", "operator": "Near"}', type=Expression).operator == "Near"
