"""A small git checkout to run the tools on."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Checkout:
    """A git repository in a temporary folder; nothing in it is ever committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True, capture_output=True)

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file, with the folders above it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def add(self, path: Path) -> None:
        """Let git track the file."""
        subprocess.run(["git", "add", "--", str(path)], cwd=self.folder, check=True, capture_output=True)
