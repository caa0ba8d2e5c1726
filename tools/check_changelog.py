"""The newest entry of CHANGELOG.md is the version that the code says it is: `python -m tools.check_changelog`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# Keep a Changelog: "## [1.2.3] - 2026-01-31", or "unreleased" in the date's place.
_ENTRY = re.compile(r"^## \[(?P<version>[^\]]+)\] - (?P<when>\d{4}-\d{2}-\d{2}|unreleased)$", re.MULTILINE)
_VERSION = re.compile(r'^__version__ = "(?P<version>[^"]+)"$', re.MULTILINE)


def disagreement(changelog: str, version_module: str) -> str | None:
    """What is wrong between the two texts, or None."""
    entry = _ENTRY.search(changelog)
    if entry is None:
        return "CHANGELOG.md has no entry such as '## [0.1.0] - unreleased'"
    version = _VERSION.search(version_module)
    if version is None:
        return "src/cdmo/version.py sets no __version__"
    if entry["version"] != version["version"]:
        return f"CHANGELOG.md begins with {entry['version']}, src/cdmo/version.py says {version['version']}"
    return None


def main() -> int:
    """Entry point; returns the exit status."""
    wrong = disagreement(
        (REPOSITORY / "CHANGELOG.md").read_text(), (REPOSITORY / "src" / "cdmo" / "version.py").read_text()
    )
    if wrong is not None:
        sys.stderr.write(f"error: {wrong}\n")
    return 0 if wrong is None else 1


if __name__ == "__main__":
    raise SystemExit(main())
