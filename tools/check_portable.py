"""No committed file names a folder of somebody's machine or the host of a package registry.

    python -m tools.check_portable

A path of one machine breaks on the next; a registry's host in a file overrides the mirror that an administrator
configured. The patterns below are written so that they do not match their own text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.tracked_files import REPOSITORY, text_of, tracked_files

_MACHINE_PATHS = re.compile(
    r"/work/(?:main|shared|\.library)\b"
    r"|/tmp/(?:boot|bash_jobs)\b"
    r"|/(?:root|home/(?!somebody/)[a-z_][a-z0-9_-]*)/(?:\.[a-z]|src\b|work\b)"
)
_REGISTRY_HOSTS = re.compile(
    r"\b(?:py(?:pi)\.org|files\.python(?:hosted)\.org"
    r"|(?:proxy|sum)\.go(?:lang)\.org"
    r"|registry\.npm(?:js)\.(?:org|com)"
    r"|(?:static\.|index\.)?crates\.(?:io)\b"
    r"|repo1?\.maven\.(?:org|apache\.org)"
    r"|(?:deb|security)\.deb(?:ian)\.org)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that would not hold on another machine."""

    path: Path
    line: int
    text: str


def findings(path: Path, own_folder: str) -> Iterator[Finding]:
    """What is wrong in one file. `own_folder` is where this checkout lies."""
    text = text_of(path)
    for number, line in enumerate((text or "").splitlines(), start=1):
        # A checkout in a folder such as /cdmo would find its own name in ordinary text.
        own = [own_folder] if own_folder.count("/") > 1 and own_folder in line else []
        matches = [match[0] for match in (_MACHINE_PATHS.search(line), _REGISTRY_HOSTS.search(line)) if match]
        for found in dict.fromkeys(own + matches):
            yield Finding(path, number, found)


def main() -> int:
    """Entry point; returns the exit status."""
    found = [finding for path in tracked_files(REPOSITORY) for finding in findings(path, str(REPOSITORY))]
    for each in found:
        sys.stderr.write(f"error: {each.path.relative_to(REPOSITORY)}:{each.line} names {each.text}\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
