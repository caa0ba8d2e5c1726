"""No source file over 400 lines: `python -m tools.check_file_size`. Generated code is left out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tools.tracked_files import REPOSITORY, tracked_files

LIMIT = 400
SUFFIXES = frozenset({".py", ".pyi", ".c", ".h", ".go", ".sh", ".js", ".css", ".html"})
GENERATED_FOLDERS = frozenset({"_pb"})


def too_long(files: Iterable[Path]) -> list[tuple[Path, int]]:
    """The hand-written source files over the limit, each with its number of lines."""
    sources = (path for path in files if path.suffix in SUFFIXES and not GENERATED_FOLDERS & set(path.parts))
    counted = ((path, len(path.read_bytes().splitlines())) for path in sources)
    return [(path, lines) for path, lines in counted if lines > LIMIT]


def main() -> int:
    """Entry point; returns the exit status."""
    found = too_long(tracked_files(REPOSITORY))
    for path, lines in found:
        sys.stderr.write(f"error: {path.relative_to(REPOSITORY)} has {lines} lines, the limit is {LIMIT}\n")
    if found:
        sys.stderr.write("hint: split it by what its parts are about\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
