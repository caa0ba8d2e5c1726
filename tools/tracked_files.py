"""The files of this checkout that are, or are about to be, committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def tracked_files(repository: Path) -> list[Path]:
    """Files that git tracks or would add, sorted; what .gitignore names and what was deleted is left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=repository, capture_output=True, check=True, text=True)
    paths = {repository / name for name in answer.stdout.split("\0") if name}
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def text_of(path: Path) -> str | None:
    """The file's text, or None for a binary file."""
    content = path.read_bytes()
    return None if b"\0" in content else content.decode("utf-8", errors="replace")
