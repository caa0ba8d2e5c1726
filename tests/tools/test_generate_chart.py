"""The chart's generated files: which there are, and what stops them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import generate_chart
from tools.generate_chart import CHART, DEPLOY, NOT_COPIED, made
from tools.generated import NotMade


def test_every_manifest_that_has_no_template_of_its_own_is_copied_byte_by_byte() -> None:
    files = made()
    copied = {path.relative_to(CHART / "files"): text for path, text in files.items() if "files" in path.parts}
    folders = (path for folder in ("crds", "hooks", "policy", "rbac") for path in (DEPLOY / folder).glob("*.yaml"))
    wanted = {path.relative_to(DEPLOY) for path in folders} - {Path(name) for name in NOT_COPIED}
    assert copied == {name: (DEPLOY / name).read_text() for name in wanted}


def test_every_value_is_a_line_of_the_readme() -> None:
    lines = made()[CHART / "README.md"].splitlines()
    assert "| `controller.replicas` | `2` | How many there are; two, so that one node may fail. |" in lines
    assert any(line.startswith("| **`agent`** | | Cuts the GPUs") for line in lines)


def test_a_bar_in_a_value_would_not_break_the_table() -> None:
    table = [line for line in made()[CHART / "README.md"].splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in table} == {4}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the chart's folder with nothing but its values in it."""
    folder = tmp_path / "chart"
    folder.mkdir()
    (folder / "values.yaml").write_text((CHART / "values.yaml").read_text())
    monkeypatch.setattr(generate_chart, "CHART", folder)
    return folder


def test_a_copy_whose_manifest_is_gone_is_told(elsewhere: Path) -> None:
    left = elsewhere / "files" / "policy" / "former.yaml"
    left.parent.mkdir(parents=True)
    left.write_text("kind: Old\n")
    with pytest.raises(NotMade, match=r"former\.yaml .* has no manifest"):
        made()


def test_values_without_a_comment_stop_it(elsewhere: Path) -> None:
    (elsewhere / "values.yaml").write_text("silent: 1\n")
    with pytest.raises(NotMade, match="silent has no comment"):
        made()
