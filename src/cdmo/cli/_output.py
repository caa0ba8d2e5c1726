"""How the command line speaks: tables that fit 80 columns, JSON that can be piped, `error:` then `hint:`."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cdmo.errors import CdmoError
from cdmo.text import printable

# Letters, signs and the line breaks and blanks of the layout are not odd; the rest can only stand within strings.
_ODD = re.compile(r"[^\n\x20-\x7e]")


class Output(StrEnum):
    """The forms of an answer."""

    TABLE = "table"
    JSON = "json"


def print_json(value: Any) -> None:
    """One JSON document on stdout. What no terminal should get stands in it as JSON's own escapes."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(_ODD.sub(_escaped, text) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int = 100) -> None:
    """A table on stdout, readable without colour; `width` columns wide where there is no terminal to ask."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As it is: names from outside are no markup, and nothing in them may move the cursor.
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in row))
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


def _escaped(found: re.Match[str]) -> str:
    sign = found[0]
    if sign.isprintable():
        return sign
    return "".join(
        f"\\u{unit:04x}" for unit in struct.unpack("<2H" if ord(sign) > 0xFFFF else "<H", sign.encode("utf-16-le"))
    )
