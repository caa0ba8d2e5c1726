"""The live picture and its lines, without a cluster."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

from cdmo_harness.demo.live import News, Rows, picture, without_fonts
from cdmo_harness.observer import Repartitioned
from rich.console import Console

from tests.demo.builders import mignode, outcome, repartition

RECUT = {"4g.40gb@0": "clearml-id-finetune", "2g.20gb@4": "", "1g.10gb@6": ""}

PICTURE = """\
NODE   GPU  PRODUCT         SLOTS     SLICES                         STATE
gpu-1  0    H100 80GB HBM3  ####ooo.  4g.40gb clearml-id-finetune    cutting
                                      2g.20gb idle
                                      1g.10gb idle
gpu-1  1    H100 80GB HBM3  ########  7g.80gb clearml-id-pretrain-2  cutting

POD                    QUEUE    RESOURCE     PHASE      NODE   SECONDS  HOW
clearml-id-pretrain-2  slice-7  mig-7g.80gb  Running    gpu-1     0.50  reused
notebook               -        mig-3g.40gb  submitted            0.31
"""


def drawn(gpus: list[dict[str, str]], rows: Rows, *, phase: str = "Ready", height: int | None = None) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(picture({"gpu-1": mignode(*gpus, phase=phase)}, rows, height=height))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def test_the_picture_fits_80_columns_and_reads_without_colour() -> None:
    rows = [
        (
            outcome("clearml-id-pretrain-2", queue="slice-7", resource="nvidia.com/mig-7g.80gb", reused=True),
            0.5,
        ),
        (outcome("notebook", phase="", node="", device=""), 0.31),
    ]
    gpus = [RECUT, {"7g.80gb@0": "clearml-id-pretrain-2"}]
    assert drawn(gpus, rows, phase="Repartitioning") == PICTURE


def test_a_low_terminal_shows_every_gpu_and_lets_finished_pods_go_first() -> None:
    rows = [(outcome(f"pod-{number}", phase="Succeeded" if number < 3 else "Running"), 1.0) for number in range(6)]
    text = drawn([RECUT], rows, height=10)
    assert len(text.splitlines()) == 10
    assert [line.split()[0] for line in text.splitlines()[-4:]] == ["pod-2", "pod-3", "pod-4", "pod-5"]


def test_each_piece_of_news_is_told_once() -> None:
    news = News()
    running = [outcome("notebook", resource="nvidia.com/mig-3g.40gb")]
    changes = [Repartitioned("gpu-1", repartition())]
    assert list(news.since([], changes)) == [
        "         gpu-1 repartitioned: fenced 0.41 s (GPU 0.15 s, device plugin 0.10 s)"
    ]
    assert list(news.since(running, changes)) == [" 0.50 s  notebook runs on gpu-1: mig-3g.40gb cut"]
    assert list(news.since(running, changes)) == []
    failed = [outcome("notebook", phase="Failed", message="UnexpectedAdmissionError")]
    assert list(news.since(failed, changes)) == ["         notebook failed: UnexpectedAdmissionError"]


def test_a_saved_picture_asks_no_other_host_for_anything() -> None:
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(picture({"gpu-1": mignode(RECUT)}, [], height=None))
    svg = without_fonts(console.export_svg(title="make demo"))
    assert "url(http" not in svg.replace('"', "")
    assert "@font-face" not in svg
    assert ElementTree.fromstring(svg).tag.endswith("svg")
