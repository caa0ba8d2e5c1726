"""What the documents tell their readers to type, and a folder like theirs to type it in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

REPOSITORY = Path(__file__).parents[2]
PAGES = tuple(
    sorted(
        str(page.relative_to(REPOSITORY))
        for pattern in ("*.md", "docs/**/*.md", "examples/*/*.md", "benchmarks/*.md", "charts/*/*.md")
        for page in REPOSITORY.glob(pattern)
    )
)

# In a list a block is indented.
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w{}]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_TYPED = frozenset({"bash", "console", "sh"})  # languages of blocks with commands
PROGRAMS = ("cdmo", "helm", "kubectl", "make", "nvidia-smi", "pytest")
_BEGINS = re.compile(rf"(?:{'|'.join(PROGRAMS)}) ")
_WRITTEN = re.compile(r"Write `(?P<name>[\w.-]+\.yaml)`:\n\n```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
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
        """The program it begins with, also where a variable is set to what that prints."""
        return self.command.rpartition("=$(")[2].split()[0]


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page, without the indentation of its list."""

    language: str
    text: str

    @property
    def typed(self) -> bool:
        """Whether it holds commands; one without a language, when it begins with one."""
        return self.language in _TYPED or (not self.language and _BEGINS.match(self.text) is not None)


def all_blocks(page: str) -> list[Block]:
    """Every block of a page."""
    found = _BLOCK.finditer((REPOSITORY / page).read_text())
    return [Block(each["language"], textwrap.dedent(each["text"])) for each in found]


def blocks(page: str, language: str) -> list[str]:
    """The texts of a page's blocks in one language."""
    return [each.text for each in all_blocks(page) if each.language == language]


def files(page: str) -> dict[str, str]:
    """The YAML that a page has its reader write into a file, by the file's name."""
    text = (REPOSITORY / page).read_text()
    return {each["name"]: textwrap.dedent(each["text"]) for each in _WRITTEN.finditer(text)}


def shown(page: str) -> list[Shown]:
    """Every command of a page, in order."""
    found: list[Shown] = []
    for block in all_blocks(page):
        if block.language == "json" and found:
            last = found[-1]
            found[-1] = Shown(page, last.command, last.before, last.output, block.text)
        if not block.typed:
            continue
        prompt = r"^\$ " if block.language == "console" else "^"
        text = re.sub(r"\\\n\s*", "", block.text)  # a line that ends so goes on below
        for part in re.split(prompt, text, flags=re.MULTILINE):
            command, _, output = part.partition("\n")
            command = command.partition("  #")[0].strip()
            if command:
                found.append(Shown(page, command, tuple(each.command for each in found), output))
    return found


def nobodys_kubeconfig(folder: Path) -> Path:
    """A kubeconfig of a cluster that refuses every connection: nothing listens on the port 9 of loopback."""
    path = folder / "kubeconfig"
    cluster = {"name": "nobody", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "nobody", "context": {"cluster": "nobody", "user": "nobody"}}
    user = {"name": "nobody", "user": {}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": [user]}
    path.write_text(yaml.safe_dump({**config, "current-context": "nobody"}))
    return path


def type_it(
    each: Shown, folder: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Run a command as its reader would, in a copy of what lies beside its page, stdout and stderr together.

    Of what was typed before it, all that changes the folder or makes a file is typed before it here as well.
    `variables` are added to this process' environment.
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
        env={**os.environ, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=15,
        check=False,
    )


def _furnish(page: str, folder: Path) -> None:
    """An example lies among its files, other pages at the root. What a page has its reader write is there, and
    what it shows as CSV is the trace that it names."""
    if page.startswith("examples/"):
        shutil.copytree((REPOSITORY / page).parent, folder)
    else:
        folder.mkdir()
        for name in ("charts", "deploy", "examples"):
            shutil.copytree(REPOSITORY / name, folder / name)
    for name, text in files(page).items():
        (folder / name).write_text(text)
    for text in blocks(page, "csv"):
        for name in re.findall(r"--trace (\S+\.csv)", (REPOSITORY / page).read_text()):
            (folder / name).write_text(text)
