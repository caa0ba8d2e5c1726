"""docs/reference/cli.md: every command, option, default and variable, by Typer's own `utils docs`."""

from __future__ import annotations

import re
import subprocess
import sys

from tools.generated import REPOSITORY, NotMade

HEAD = """<!-- Generated from src/cdmo/cli by tools/generate_reference.py (`make crd`); do not edit. -->

# Commands

Exit status: 0, done; 1, a failure, with `error:` and `hint:` on stderr; 2, wrong usage. Answers go to stdout, talk to
stderr. What a command adds to that stands with it.

"""
_LIMIT = 60  # seconds
_HEADING = re.compile(r"^#+ `(?P<command>[^`]+)`$", re.MULTILINE)
_VARIABLE = re.compile(r"^\* `(?P<option>-[^`]*)`:.*\[env var: (?P<name>\w+)", re.MULTILINE)
# Each command has a part of its own, with its whole help; the list above them has it cut short.
_LIST = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n")
_HELP = "* `--help`: Show this message and exit.\n"


def page() -> str:
    """The text of the page. Raises NotMade when Typer cannot read the command."""
    docs = _docs()
    parts = _HEADING.split(docs)[1:]  # command, text, command, text, …
    commands = dict(zip(parts[::2], parts[1::2], strict=True))
    return HEAD + _variables(commands) + "".join(map(_part, commands, commands.values())).rstrip() + "\n"


def _docs() -> str:
    command = [sys.executable, "-m", "typer", "cdmo.cli.app", "utils", "docs", "--name", "cdmo"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=_LIMIT, check=False)
    if answer.returncode != 0:
        raise NotMade(f"`typer utils docs` ended with status {answer.returncode}: {answer.stderr.strip()[-300:]}")
    return answer.stdout


def _variables(commands: dict[str, str]) -> str:
    of: dict[str, set[str]] = {}
    for text in commands.values():
        for found in _VARIABLE.finditer(text):
            of.setdefault(found["name"], set()).add(found["option"].split(" ")[0])
    rows = "".join(f"| `{name}` | {', '.join(f'`{each}`' for each in sorted(of[name]))} |\n" for name in sorted(of))
    return f"## Environment variables\n\n| Variable | In place of |\n|---|---|\n{rows}\n"


def _part(command: str, text: str) -> str:
    text = _LIST.sub("", text).replace(_HELP, "").replace("**Options**:\n\n\n", "")
    # Not a command that anybody types, but its form.
    text = text.replace("**Usage**:\n\n```console\n$ ", "```text\n")
    return f"## `{command}`\n\n{text.strip()}\n\n"
