"""CHANGELOG.md and the version of the code."""

from __future__ import annotations

import pytest

from tools.check_changelog import REPOSITORY, disagreement

VERSION_MODULE = '"""Docs."""\n\n__version__ = "0.2.0"\n'


@pytest.mark.parametrize("when", ["unreleased", "2026-01-31"])
def test_the_newest_entry_counts(when: str) -> None:
    changelog = f"# Changelog\n\n## [0.2.0] - {when}\n\n## [0.1.0] - 2025-12-01\n"
    assert disagreement(changelog, VERSION_MODULE) is None


def test_an_older_newest_entry_is_named() -> None:
    changelog = "## [0.1.0] - 2025-12-01\n\n## [0.2.0] - 2025-11-01\n"
    assert disagreement(changelog, VERSION_MODULE) == "CHANGELOG.md begins with 0.1.0, src/cdmo/version.py says 0.2.0"


@pytest.mark.parametrize(
    ("changelog", "version_module", "word"),
    [
        ("# Changelog\n", VERSION_MODULE, "no entry"),
        ("## [0.2.0] - soon\n", VERSION_MODULE, "no entry"),
        ("## [0.2.0] - unreleased\n", "version = 1\n", "sets no __version__"),
    ],
)
def test_a_missing_half_is_said(changelog: str, version_module: str, word: str) -> None:
    assert word in (disagreement(changelog, version_module) or "")


def test_this_project_agrees_with_itself() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    assert disagreement(changelog, (REPOSITORY / "src/cdmo/version.py").read_text()) is None
