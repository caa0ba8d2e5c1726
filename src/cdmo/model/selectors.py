"""Label selectors and node selector terms, matched as Kubernetes matches them.

Sources: k8s.io/apimachinery/pkg/labels (Requirement.Matches, NewRequirement) and
k8s.io/component-helpers/scheduling/corev1/nodeaffinity, both v0.37.

The structs hash and compare in C: plans look up what they know by them, thousands of times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

import msgspec

NAME_FIELD = "metadata.name"  # the one field that a node selector may ask for

_PART = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(f"(?:{_PART})?")
_DNS = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_DNS}(?:\.{_DNS})*/)?{_PART}")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = range(-(2**63), 2**63)
_VALUES_WANTED = {
    "In": range(1, 2**31),
    "NotIn": range(1, 2**31),
    "Exists": range(1),
    "DoesNotExist": range(1),
    "Gt": range(1, 2),
    "Lt": range(1, 2),
}


class Requirement(msgspec.Struct, frozen=True, gc=False):
    """One expression about a label: In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy it. One that makes no sense (see `sound`) holds for nothing."""
        return sound(self) and self._compare(labels.get(self.key))

    def _compare(self, value: str | None) -> bool:
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":  # an absent label is not one of the values
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        # Gt and Lt: whole numbers of 64 bits; a label that is none does not match.
        number = None if value is None else integer(value)
        bound = integer(self.values[0])
        if number is None or bound is None:
            return False
        return number > bound if self.operator == "Gt" else number < bound

    def __str__(self) -> str:
        match self.operator:
            case "In" if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"no {self.key}"
        return f"{self.key} {self.operator} {','.join(self.values)}"


class SelectorTerm(msgspec.Struct, frozen=True, gc=False):
    """Requirements that must all hold; a term without any matches nothing."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()  # metadata.name alone

    def matches(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a node with these labels and this name satisfies it."""
        if not self.labels and not self.fields:
            return False
        for each in self.labels:
            if not each.holds(labels):
                return False
        return all(_field_holds(each, name) for each in self.fields)


LabelSelector: TypeAlias = tuple[Requirement, ...] | None
"""Requirements that must all hold. None selects nothing, the empty tuple everything."""


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected."""
    return selector is not None and all(each.holds(labels) for each in selector)


def any_matches(terms: Iterable[SelectorTerm], labels: Mapping[str, str], name: str) -> bool:
    """Whether one of the terms matches a node; none at all match nothing."""
    return any(term.matches(labels, name) for term in terms)


@lru_cache(maxsize=65536)  # asked for every node, while a cluster holds few different ones
def sound(requirement: Requirement) -> bool:
    """Whether Kubernetes can read the requirement. A term with one that it cannot read never matches."""
    wanted = _VALUES_WANTED.get(requirement.operator)
    if wanted is None or len(requirement.values) not in wanted or _KEY.fullmatch(requirement.key) is None:
        return False
    if requirement.operator in ("Gt", "Lt") and integer(requirement.values[0]) is None:
        return False
    return all(_VALUE.fullmatch(value) for value in requirement.values)


@lru_cache(maxsize=4096)
def integer(text: str) -> int | None:
    """A decimal whole number of 64 bits as Go's strconv.ParseInt reads it, or None."""
    if _INTEGER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number in _INT64 else None


def _field_holds(requirement: Requirement, name: str) -> bool:
    """Field selectors know In and NotIn with exactly one value; a field that is not there is empty."""
    if len(requirement.values) != 1:
        return False
    value = name if requirement.key == NAME_FIELD else ""
    match requirement.operator:
        case "In":
            return value == requirement.values[0]
        case "NotIn":
            return value != requirement.values[0]
    return False
