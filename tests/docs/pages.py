"""What the documents tell their readers to type, and a folder like theirs to type it in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = tuple(
    sorted(
        str(page.relative_to(REPOSITORY))
        for pattern in ("*.md", "docs/**/*.md", "examples/*/*.md", "benchmarks/*.md")
        for page in REPOSITORY.glob(pattern)
    )
)

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CLUSTER = REPOSITORY / "examples" / "02-what-if" / "cluster.yaml"

# Answers like a kubectl whose cluster is the one of the example: what `get … -o json` prints is valid YAML as well.
_KUBECTL = f"""#!/bin/sh
case "$*" in
    "get "*"-o json") exec cat '{_CLUSTER}' ;;
    *) echo "this stand-in for kubectl knows no '$*'" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A command of a page, what was typed before it, the lines below it, and the JSON in the block that follows."""

    page: str
    command: str
    before: tuple[str, ...] = ()
    output: str = ""
    json: str = ""

    @property
    def program(self) -> str:
        """The program it begins with."""
        return self.command.split()[0]


def blocks(page: str, language: str) -> list[str]:
    """The texts of a page's blocks in one language."""
    found = _BLOCK.finditer((REPOSITORY / page).read_text())
    return [each["text"] for each in found if each["language"] == language]


def shown(page: str) -> list[Shown]:
    """Every command of a page, in order."""
    found: list[Shown] = []
    for block in _BLOCK.finditer((REPOSITORY / page).read_text()):
        if block["language"] == "json" and found:
            last = found[-1]
            found[-1] = Shown(page, last.command, last.before, last.output, block["text"])
        if block["language"] not in ("console", "sh"):
            continue
        prompt = r"^\$ " if block["language"] == "console" else "^"
        for part in re.split(prompt, block["text"], flags=re.MULTILINE):
            command, _, output = part.partition("\n")
            command = command.partition("  #")[0].strip()
            if command:
                found.append(Shown(page, command, tuple(each.command for each in found), output))
    return found


def type_it(each: Shown, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as its reader would, in a copy of what lies beside its page, stdout and stderr together.

    Of what was typed before it, all that changes the folder or makes a file is typed before it here as well.
    """
    here = folder / "reader"
    _furnish(each.page, here)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "kubectl").write_text(_KUBECTL)
    (programs / "kubectl").chmod(0o755)
    path = os.pathsep.join((str(Path(sys.executable).parent), str(programs), os.environ["PATH"]))
    script = [line for line in each.before if line.startswith("cd ") or "> " in line]
    return subprocess.run(
        ["/bin/sh", "-ec", "\n".join([*script, each.command])],
        cwd=here,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=15,
        check=False,
    )


def _furnish(page: str, folder: Path) -> None:
    """An example lies among its files, other pages at the root. What a page shows as CSV is the trace it names."""
    if page.startswith("examples/"):
        shutil.copytree((REPOSITORY / page).parent, folder)
    else:
        folder.mkdir()
        shutil.copytree(REPOSITORY / "examples", folder / "examples")
    for text in blocks(page, "csv"):
        for name in re.findall(r"--trace (\S+\.csv)", (REPOSITORY / page).read_text()):
            (folder / name).write_text(text)
