"""Draws a simulation: utilisation, who had to wait or was turned away, and fragmentation over virtual time.

The only module that knows matplotlib, which is an optional dependency and slow to import: inside the functions.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cdmo.errors import BadSettings
from cdmo.simulation.figures import Figures
from cdmo.simulation.timeline import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
_SIZE = (9.0, 7.2)  # inches
_DOTS_PER_INCH = 144
_LINE, _MEAN, _LEFT_OUT = "#1f5fa8", "#b3461e", "#e9e9e9"


def check_plot(path: Path) -> None:
    """Raises BadSettings if a plot could not be written there, before any work is done for it."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadSettings(f"--plot: {path} has no suffix that can be drawn", hint="name a file in .svg or .png")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise BadSettings(f"--plot: {path} {what}", hint="name a file in a folder that exists")
    if find_spec("matplotlib") is None:
        raise BadSettings("--plot needs matplotlib, which is not installed", hint="pip install 'cdmo[plot]'")


def draw(figures: Figures, path: Path, title: str, unit: str, *, loss: bool) -> None:
    """Write the picture. `unit`: of virtual time, for the axis. The same figures give the same bytes."""
    from matplotlib import rc_context

    # Ids and dates that differ from run to run would make every SVG a new file.
    with rc_context(
        {"svg.hashsalt": "cdmo", "font.size": 10.0, "axes.spines.top": False, "axes.spines.right": False}
    ):
        picture = _picture(figures, title, unit, loss=loss)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        try:
            picture.savefig(path, dpi=_DOTS_PER_INCH, metadata=metadata, format=path.suffix[1:].lower())
        except OSError as error:
            raise BadSettings(
                f"--plot: {path} cannot be written: {error.strerror}", hint="name another file"
            ) from error


def _picture(figures: Figures, title: str, unit: str, *, loss: bool) -> Figure:
    from matplotlib.figure import Figure

    picture = Figure(figsize=_SIZE, layout="constrained")
    picture.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    used, waiting, broken = picture.subplots(3, 1, sharex=True)
    mean, points = figures.mean, figures.points
    edges = [each.start for each in points] + [each.end for each in points[-1:]]
    _curve(used, edges, [100 * each.utilisation for each in points])
    used.set_ylabel("utilisation\n(% of memory slots)")
    used.set_ylim(0, 103)
    if loss:
        _turned_away(waiting, figures)
    else:
        _curve(waiting, edges, [each.queue for each in points])
        waiting.set_ylabel("queue\n(pods that wait)")
    _curve(broken, edges, [100 * each.fragmentation for each in points])
    broken.set_ylabel("fragmentation\n(% of free memory slots)")
    broken.set_ylim(0, 103)
    broken.set_xlabel(f"virtual time ({unit})")
    if mean is not None:
        _mean(used, mean, 100 * mean.utilisation, "%")
        if loss:
            _mean(waiting, mean, 100 * (1 - figures.accepted_share), "%")
        else:
            _mean(waiting, mean, mean.queue, "pods")
        _mean(broken, mean, 100 * mean.fragmentation, "%")
    for axes in (used, waiting, broken):
        _finish(axes, figures)
    if mean is not None and points and points[0].start < mean.start:
        used.set_title("shaded: warm-up, not counted", loc="left", fontsize=9, color="#666666", pad=3)
    picture.align_ylabels()
    return picture


def _curve(axes: Axes, edges: list[float], values: list[float]) -> None:
    """Means over equal stretches of time, each drawn as long as its stretch."""
    if values:
        axes.stairs(values, edges, color=_LINE, linewidth=1.1, baseline=None)
    axes.set_ylim(0, max(1.0, 1.05 * max(values, default=0.0)))


def _turned_away(axes: Axes, figures: Figures) -> None:
    times, shares = [each[0] for each in figures.turned_away], [100 * each[1] for each in figures.turned_away]
    axes.plot(times, shares, color=_LINE, linewidth=1.1, marker="." if len(times) < 2 else "")
    axes.set_ylabel("turned away\n(% of arrivals)")
    axes.set_ylim(0, max(5.0, 1.05 * max(shares, default=0.0)))


def _mean(axes: Axes, window: Point, value: float, unit: str) -> None:
    """The mean as a line over the window that it was taken over, and in words above the panel."""
    axes.hlines(value, window.start, window.end, color=_MEAN, linewidth=1.2, linestyle="--")
    axes.set_title(f"mean {value:.3g} {unit}", loc="right", fontsize=9, color=_MEAN, pad=3)


def _finish(axes: Axes, figures: Figures) -> None:
    """Shade what the figures leave out, and say so."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if figures.mean is None or not figures.points:
        return
    start, end = figures.points[0].start, figures.points[-1].end
    axes.set_xlim(start, end)
    if start < figures.mean.start:
        axes.axvspan(start, figures.mean.start, color=_LEFT_OUT, linewidth=0, zorder=0)
