"""docs/reference/events.md: every reason of Events, of conditions and of pods that wait, from model/reasons.py.

What a reason means stands behind it there, in a comment. What to do stands in docs/troubleshooting.md and
docs/why-is-my-pod-pending.md, of which tests know that no reason is missing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cdmo.model import reasons
from tools.generated import NotMade

SOURCE = Path(reasons.__file__)

HEAD = """<!-- Generated from src/cdmo/model/reasons.py by tools/generate_reference.py (`make crd`); do not edit. -->

# Events and conditions

Reasons are stable; sentences may change. What to do about each: [Events](../troubleshooting.md#every-event),
[conditions](../troubleshooting.md#every-condition-of-a-mignode), [pods that wait](../why-is-my-pod-pending.md).
"""
ELSEWHERE = "[what it means](../troubleshooting.md#every-condition-of-a-mignode)"
TITLES = {"WaitingCode": "Why a pod waits", "EventReason": "Events"}  # the others are called as their docstring says


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason, and what stands behind it in the source."""

    value: str
    comment: str


@dataclass(frozen=True, slots=True)
class Group:
    """The reasons of one enumeration."""

    name: str
    docstring: str
    reasons: tuple[Reason, ...]


def groups(source: str) -> Iterator[Group]:
    """Every enumeration of the source."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found = (
                Reason(str(each.value.value), _comment(lines[each.lineno - 1][each.end_col_offset :]))
                for each in node.body
                if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
            )
            yield Group(node.name, " ".join((ast.get_docstring(node) or "").split()), tuple(found))


def _comment(behind: str) -> str:
    return behind.strip().removeprefix("#").strip()


def page(source: str) -> str:
    """The text of the page. Raises NotMade for an enumeration without a docstring."""
    return HEAD + "".join(map(_part, groups(source)))


def _part(group: Group) -> str:
    if not group.docstring:
        raise NotMade(f"reasons.py: {group.name} has no docstring")
    title, said = TITLES.get(group.name, ""), f"{group.docstring}\n\n"
    if not title:
        title, said = group.docstring.rstrip("."), ""
    rows = "".join(f"| `{each.value}` | {each.comment or ELSEWHERE} |\n" for each in group.reasons)
    return f"\n## {title}\n\n{said}| Reason | Means |\n|---|---|\n{rows}"
