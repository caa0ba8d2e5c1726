"""How the command line speaks: tables that fit 80 columns, JSON that can be piped, `error:` then `hint:`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cdmo.errors import CdmoError


class Output(StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    JSON = "json"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int = 100) -> None:
    """A table on stdout, readable without colour; `width` columns wide where there is no terminal to ask."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: names from outside are no markup
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=width)
    with console.capture() as printed:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def print_error(error: CdmoError) -> None:
    """What went wrong and what to do, on stderr."""
    sys.stderr.write(f"error: {error}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
