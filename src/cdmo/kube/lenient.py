"""What the decoders of API objects have in common: lenient structs, node selectors, amounts, shared values.

Only the fields named in these structs are decoded; the rest of an object (most of it) never becomes a Python object.
Every field may be missing or null: an odd object should still say what it can.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, TypeVar, cast

import msgspec

from cdmo.kube.quantity import amount
from cdmo.model.selectors import LabelSelector, Requirement, SelectorTerm

Amounts = dict[str, str | int | float]
Labels = dict[str, str | None]
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]  # what Kubernetes calls an int32
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]

H = TypeVar("H", bound=Hashable)


class Lenient(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is decoded: unknown fields are skipped."""


class Metadata(Lenient, frozen=True):
    """ObjectMeta of what moves often: pods, nodes, namespaces."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    labels: Labels | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: str | None = None


class Expression(Lenient, frozen=True):
    """One requirement of a node or label selector."""

    key: str
    operator: str
    values: list[str] | None = None


class Term(Lenient, frozen=True):
    """NodeSelectorTerm."""

    match_expressions: list[Expression] | None = None
    match_fields: list[Expression] | None = None


class NodeSelector(Lenient, frozen=True):
    """NodeSelector: terms of which one must match."""

    node_selector_terms: list[Term] | None = None


class Selector(Lenient, frozen=True):
    """LabelSelector: everything in it must hold."""

    match_labels: Labels | None = None
    match_expressions: list[Expression] | None = None


def amounts(quantities: Amounts | None) -> dict[str, int]:
    """Quantities in each resource's own unit, rounded up."""
    return {sys.intern(name): amount(name, str(text)) for name, text in (quantities or {}).items()}


def pairs(labels: Labels | None) -> tuple[tuple[str, str], ...]:
    """Labels as pairs, ascending, with strings that are shared."""
    return tuple(sorted((sys.intern(key), sys.intern(value or "")) for key, value in (labels or {}).items()))


def label_map(labels: Labels | None) -> Mapping[str, str]:
    """Labels by key, with strings that are shared."""
    return {sys.intern(key): sys.intern(value or "") for key, value in (labels or {}).items()}


def requirements(expressions: Iterable[Expression] | None) -> tuple[Requirement, ...]:
    """Requirements of a selector."""
    return tuple(
        shared(Requirement(sys.intern(one.key), one.operator, tuple(one.values or ()))) for one in expressions or ()
    )


def terms(selector: NodeSelector | None) -> tuple[SelectorTerm, ...] | None:
    """Terms of which one must match; None where there is no selector."""
    if selector is None:
        return None
    return tuple(
        shared(SelectorTerm(requirements(term.match_expressions), requirements(term.match_fields)))
        for term in selector.node_selector_terms or ()
    )


def label_selector(selector: Selector | None) -> LabelSelector:
    """A label selector; none selects nothing, an empty one everything."""
    if selector is None:
        return None
    equal = (Requirement(key, "In", (value,)) for key, value in pairs(selector.match_labels))
    return (*map(shared, equal), *requirements(selector.match_expressions))


@lru_cache(maxsize=65536)
def _first(value: Hashable) -> Hashable:
    return value


def shared(value: H) -> H:
    """The equal value that was seen before: pods of one workload then hold one object instead of thousands."""
    return cast("H", _first(value))
