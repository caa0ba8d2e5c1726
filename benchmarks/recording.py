"""What a benchmark measured: kept beside its bounds, printed as a table, and held to the bounds.

A benchmark's folder has `bounds.toml`, a table of bounds for each part of it, and `results.json`, which the last run
of each part wrote: every figure with its bound, mean, deviation and worst, and the machine it comes from.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# How the name of a bound in bounds.toml begins.
AT_LEAST, AT_MOST = "at_least", "at_most"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    value: float  # what is held to the bound
    unit: str = ""
    values: tuple[float, ...] = ()  # the single measurements behind it
    bound: float | None = None
    kind: str = ""  # AT_LEAST, AT_MOST, or nothing without a bound

    @property
    def holds(self) -> bool:
        """Whether it is within its bound."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.kind == AT_LEAST else self.value <= self.bound

    def __str__(self) -> str:
        sign = {AT_LEAST: ">=", AT_MOST: "<="}.get(self.kind, "")
        bound = "" if self.bound is None else f", the bound is {sign} {self.bound:g}{self.unit}"
        return f"{self.name}: {self.value:.4g}{self.unit}{bound}"


class Part:
    """One part of a benchmark, being measured."""

    def __init__(self, folder: Path, name: str, printed: list[tuple[str, Figure]]) -> None:
        self.name = name
        self._folder = folder
        self._printed = printed
        self._bounds: dict[str, float] = tomllib.loads((folder / "bounds.toml").read_text()).get(name, {})
        self._figures: list[Figure] = []
        self._more: dict[str, Any] = {}
        self._before = stolen_seconds(), time.monotonic()

    def figure(
        self,
        name: str,
        values: Sequence[float] | float,
        unit: str = "",
        *,
        key: str = "",
        of: Callable[[Sequence[float]], float] = statistics.fmean,
    ) -> None:
        """Record a figure from one or more measurements: their mean unless `of` says otherwise.

        key: of its bound in bounds.toml, behind "at_most_" or "at_least_"; empty: it is held to nothing.
        """
        several = (values,) if isinstance(values, int | float) else tuple(values)
        kind = next((each for each in (AT_LEAST, AT_MOST) if f"{each}_{key}" in self._bounds), "")
        if key and not kind:
            raise KeyError(f"{self._folder.name}/bounds.toml has no bound for {key} in [{self.name}]")
        bound = self._bounds.get(f"{kind}_{key}")
        self._figures.append(Figure(name, of(several), unit, several, bound, kind))

    def note(self, name: str, value: object) -> None:
        """Record something that is no figure: how many, which seeds."""
        self._more[name] = value

    def finish(self) -> None:
        """Write the part's results and hold every figure to its bound."""
        path = self._folder / "results.json"
        results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        results[self.name] = {
            **self._more,
            "figures": {each.name: _written(each) for each in self._figures},
            "machine": {**machine(), "stolenShare": self._stolen_share()},
            "measuredAt": now(),
        }
        path.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n")
        self._printed += [(self.name, each) for each in self._figures]
        beyond = [str(each) for each in self._figures if not each.holds]
        assert not beyond, "; ".join(beyond)

    def _stolen_share(self) -> float:
        """Of the processors' time since the part began, what a virtual machine's host took: 0 on a quiet one."""
        stolen, began = self._before
        return round((stolen_seconds() - stolen) / ((time.monotonic() - began) * (os.cpu_count() or 1)), 3)


def _written(figure: Figure) -> dict[str, Any]:
    written: dict[str, Any] = {"value": _rounded(figure.value), "unit": figure.unit}
    if figure.bound is not None:
        written["bound"] = figure.bound
        written["bounded"] = figure.kind.replace("_", " ")
    if len(figure.values) > 1:
        written["mean"] = _rounded(statistics.fmean(figure.values))
        written["deviation"] = _rounded(statistics.pstdev(figure.values))
        written["least"] = _rounded(min(figure.values))
        written["most"] = _rounded(max(figure.values))
        written["measurements"] = len(figure.values)
    return written


def _rounded(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}


def stolen_seconds() -> float:
    """Processor seconds that the host of this virtual machine has taken since its start; proc_stat(5), `steal`."""
    total = Path("/proc/stat").read_text().partition("\n")[0].split()
    return int(total[8]) / os.sysconf("SC_CLK_TCK")


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def now() -> str:
    """The time of day, for a results file."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def table(rows: Sequence[tuple[str, Figure]]) -> list[str]:
    """The figures beside their bounds, in lines of at most 80 characters."""
    lines = []
    part = ""
    for name, figure in rows:
        if name != part:
            part = name
            lines += ["", f"{name:<44.44}{'measured':>12}  {'bound':>14}"]
        unit = figure.unit
        sign = {AT_LEAST: ">=", AT_MOST: "<="}.get(figure.kind, "")
        bound = "" if figure.bound is None else f"{sign} {figure.bound:g}{unit}"
        verdict = "" if figure.holds else "  BEYOND"
        lines.append(f"  {figure.name:<42.42}{figure.value:>12.4g}{unit:<2.2}{bound:>14}{verdict}".rstrip())
    return lines
