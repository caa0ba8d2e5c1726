"""What a chaos run answers: one JSON object, or a table of at most 80 columns."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

WIDTH = 80
_MOST_DETAILS = 20


class FaultRow(msgspec.Struct, frozen=True):
    """The faults of one kind."""

    kind: str
    count: int
    seconds: float  # in all
    failed: int  # of these, the ones that could not be brought about


class MemoryRow(msgspec.Struct, frozen=True, rename="camel"):
    """The resident memory of one process of CDMO, megabytes: when it had settled, at the end, the most."""

    process: str
    first: float
    last: float
    most: float
    ended_by_itself: dict[str, int]  # exit status -> times
    last_words: dict[str, int]  # what it said when it did -> times


class Found(msgspec.Struct, frozen=True):
    """A violation."""

    what: str
    details: str


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """A whole run."""

    seed: int
    minutes: float
    seconds: float  # from the first pod to the last check
    ok: bool
    faults: tuple[FaultRow, ...]
    blows: dict[str, int]  # what the API proxy did, by kind
    pods: dict[str, int]  # by how they ended
    lost_with_a_fault: dict[str, int]  # pods that a fault took and CDMO could not save, by fault
    filled: int  # pods that ran at the same time at the end, on every slot of every GPU
    repartitions: dict[str, int]  # by node
    instances_created: int
    instances_destroyed: int
    interrupted_changes: int  # changes that a new agent found open, and ended
    kubelets_restarted: int  # because the alarm asked for it
    memory: tuple[MemoryRow, ...]
    violations: tuple[Found, ...]


def as_json(summary: Summary) -> str:
    """One JSON object."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n"


def as_text(summary: Summary) -> str:
    """Tables for people, each after the other; the verdict is the last line."""
    faults = _table("FAULT", numbers=("COUNT", "SECONDS", "NOT POSSIBLE"))
    for row in summary.faults:
        faults.add_row(row.kind, str(row.count), f"{row.seconds:.0f}", str(row.failed or "-"))
    parts = [
        f"Chaos with seed {summary.seed}: {summary.minutes:g} min of faults, {summary.seconds:.0f} s in all\n",
        _text(faults),
        _pairs("WHAT THE API PROXY DID", summary.blows),
        _pairs("PODS", summary.pods),
        _pairs("PODS LOST TO A FAULT, WITH OR WITHOUT CDMO", summary.lost_with_a_fault),
        _pairs("CDMO", _totals(summary)),
        _memory(summary.memory),
        _verdict(summary),
    ]
    return "\n".join(part for part in parts if part)


def _totals(summary: Summary) -> Mapping[str, int]:
    return {
        "repartitions": sum(summary.repartitions.values()),
        "GPU instances created": summary.instances_created,
        "GPU instances destroyed": summary.instances_destroyed,
        "changes cut short and ended by the next agent": summary.interrupted_changes,
        "kubelets restarted because the alarm asked": summary.kubelets_restarted,
        "pods at once on every slot, at the end": summary.filled,
    }


def _memory(rows: Sequence[MemoryRow]) -> str:
    table = _table("PROCESS", numbers=("FIRST MB", "LAST MB", "MOST MB"), width=16)
    table.add_column("ENDED BY ITSELF")
    for row in rows:
        ends = ", ".join(f"{_times(count)} with {status}" for status, count in row.ended_by_itself.items())
        table.add_row(row.process, f"{row.first:.0f}", f"{row.last:.0f}", f"{row.most:.0f}", ends or "-")
    return _text(table) + _last_words(rows)


def _last_words(rows: Sequence[MemoryRow]) -> str:
    lines = []
    for row in rows:
        for words, count in row.last_words.items():
            lines += _wrapped(f"{row.process}, {_times(count)}: {words}")
    return "\nLAST WORDS OF THOSE\n" + "\n".join(lines) + "\n" if lines else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=True)


def _verdict(summary: Summary) -> str:
    if not summary.violations:
        return "0 violations\n"
    lines = []
    for each in summary.violations[:_MOST_DETAILS]:
        lines += _wrapped(f"{each.what}: {each.details}")
    more = len(summary.violations) - _MOST_DETAILS
    if more > 0:
        lines.append(f"and {more} more")
    count = len(summary.violations)
    return "VIOLATIONS\n" + "\n".join(lines) + f"\n\n{count} violation{'s' if count > 1 else ''}\n"


def _pairs(title: str, values: Mapping[str, int]) -> str:
    if not values:
        return ""
    table = _table(title, numbers=("COUNT",))
    for name, value in values.items():
        table.add_row(name, str(value))
    return _text(table)


def _table(first: str, *, numbers: Sequence[str], width: int = 44) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column(first, min_width=width)
    for each in numbers:
        table.add_column(each, justify="right")
    return table


def _text(table: Table) -> str:
    """Plain text: it may go to a file, and it reads as well without colour."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
