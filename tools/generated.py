"""How every generator of this folder ends: `--write` its files, or `--check` that they are what it makes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


class NotMade(Exception):
    """The sources contradict each other; the text says where."""


def write_or_check(
    what: str, make: Callable[[], Mapping[Path, str]], sources: str, arguments: list[str] | None = None
) -> int:
    """Entry point of a generator; returns the exit status.

    make: the files as they should be; raises NotMade. sources: what they are made of, for the message.
    """
    parser = argparse.ArgumentParser(description=what)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--write", action="store_true", help="write the files")
    asked.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    check = parser.parse_args(arguments).check
    try:
        made = make()
    except NotMade as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            sys.stderr.write(f"error: {_name(path)} is not what {sources} makes\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path])
    if check and stale:
        sys.stderr.write("hint: run `make crd` and commit what it writes\n")
    return 1 if check and stale else 0


def _name(path: Path) -> Path:
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
