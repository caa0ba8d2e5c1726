"""Pictures of simulations: valid files with labelled axes, for every shape of result."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cdmo.cli._plot import check_plot, draw
from cdmo.errors import BadSettings
from cdmo.simulation.figures import Figures, figures
from tests.builders import h100, node
from tests.simulation.stage import job, played, workload, world_of

NODES = [node("gpu-1", [h100()])]


def measured(*, loss: bool = False) -> Figures:
    jobs = [job(f"p{number:02d}", "4g.40gb", at=number, runs=3) for number in range(20)]
    return figures(played(jobs, NODES, loss=loss, warmup=0.2), world_of(NODES, workload(jobs)).size)


def texts(path: Path) -> str:
    """An SVG's comments hold its texts: letters themselves are drawn as paths."""
    ElementTree.parse(path)  # it is well formed
    return "\n".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


def test_an_svg_has_three_panels_with_labels_and_units(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    draw(measured(), path, "trace t.csv, 1 GPUs", "seconds", loss=False)
    said = texts(path)
    for label in (
        "trace t.csv, 1 GPUs",
        "(% of memory slots)",
        "(pods that wait)",
        "(% of free memory slots)",
        "virtual time (seconds)",
        "shaded: warm-up, not counted",
    ):
        assert label in said


def test_with_loss_the_second_panel_shows_who_was_turned_away(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    draw(measured(loss=True), path, "title", "seconds", loss=True)
    assert "(% of arrivals)" in texts(path)
    assert "(pods that wait)" not in texts(path)


def test_a_png_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.PNG"
    draw(measured(), path, "title", "seconds", loss=False)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000 < height * 2
    length, name = struct.unpack(">I4s", content[-12:-4])
    assert (length, name, struct.unpack(">I", content[-4:])[0]) == (0, b"IEND", zlib.crc32(b"IEND"))


@pytest.mark.parametrize("loss", [True, False])
def test_a_run_in_which_no_time_went_by_is_still_drawn(tmp_path: Path, loss: bool) -> None:
    path = tmp_path / "run.svg"
    draw(replace(measured(loss=loss), mean=None, points=()), path, "title", "seconds", loss=loss)
    assert "virtual time (seconds)" in texts(path)


def test_a_file_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"gone/run\.svg cannot be written"):
        draw(measured(), tmp_path / "gone" / "run.svg", "title", "seconds", loss=False)


def test_without_matplotlib_the_hint_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdmo.cli._plot.find_spec", lambda name: None)
    with pytest.raises(BadSettings, match="matplotlib") as refused:
        check_plot(tmp_path / "run.svg")
    assert "cdmo[plot]" in refused.value.hint


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    folder = tmp_path / "x.svg"
    folder.mkdir()
    with pytest.raises(BadSettings, match="is a folder"):
        check_plot(folder)


def test_no_window_system_is_ever_asked_for() -> None:
    measured()
    assert "matplotlib.pyplot" not in sys.modules
