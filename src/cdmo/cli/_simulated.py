"""What a simulation prints: tables for people, one document for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from cdmo.cli._output import print_table
from cdmo.simulation.figures import Figures, KindFigures, Waits
from cdmo.simulation.timeline import Point

_WIDTH = 80  # columns, where there is no terminal to ask
_SHOWN_KINDS = 20  # rows of the table; JSON has them all


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as it is shown."""

    figures: Figures
    source: str  # what the workload is
    nodes: int
    gpus: int
    slots: int
    unit: str  # of virtual time
    loss: bool
    wall_seconds: float  # real time of the run


def as_json(shown: Shown, problems: int) -> dict[str, Any]:
    """The figures for programs; shares are from 0 to 1, times in the workload's unit, null where nothing is known."""
    made, mean = shown.figures, shown.figures.mean
    return {
        "pods": made.pods,
        "accepted": made.accepted,
        "acceptedShare": made.accepted_share,
        "slotShare": made.slot_share,
        "createsPerAccepted": made.creates_per_accepted,
        "destroysPerAccepted": made.destroys_per_accepted,
        "meanWait": made.waits.mean,
        "p95Wait": made.waits.p95,
        "utilisation": mean.utilisation if mean else None,
        "fragmentation": mean.fragmentation if mean else None,
        "meanQueue": mean.queue if mean else None,
        "longestQueue": made.longest_queue,
        "stillWaiting": made.still_waiting,
        "arrivals": made.arrivals,
        "leftOut": problems,
        "workload": shown.source,
        "loss": shown.loss,
        "nodes": shown.nodes,
        "gpus": shown.gpus,
        "slots": shown.slots,
        "from": mean.start if mean else None,
        "until": mean.end if mean else None,
        "ended": made.ended,
        "wallSeconds": round(shown.wall_seconds, 3),
        "perProfile": [_kind(each) for each in made.kinds],
        "neverStarted": [
            {"code": str(each.code), "pods": each.pods, "example": each.example, "reason": each.reason}
            for each in made.refusals
        ],
        "overTime": [_point(each) for each in made.points],
    }


def print_figures(shown: Shown) -> None:
    """Three tables: the figures, a row a kind of pod, and why pods never started."""
    made = shown.figures
    way = "a pod without a place is gone" if shown.loss else "a pod without a place waits"
    typer.echo(shown.source)
    typer.echo(f"{made.arrivals} arrivals, the last {made.pods} counted; {way}")
    typer.echo(f"{shown.gpus} GPUs on {shown.nodes} nodes, {shown.slots} memory slots\n")
    print_table(("FIGURE", "VALUE"), _rows(shown), width=_WIDTH)
    typer.echo("")
    waits = () if shown.loss else ("MEAN WAIT", "P95 WAIT")  # nobody waits where a pod without a place is gone
    columns = ("PODS THAT ASK FOR", "PODS", "ACCEPTED", *waits)
    rows = (_kind_row(each)[: len(columns)] for each in made.kinds[:_SHOWN_KINDS])
    print_table(columns, rows, width=_WIDTH)
    if len(made.kinds) > _SHOWN_KINDS:
        typer.echo(f"and {len(made.kinds) - _SHOWN_KINDS} more kinds of pods, all in --output json")
    if made.refusals:
        typer.echo("")
        refusals = ((str(each.code), str(each.pods), f"{each.example}: {each.reason}") for each in made.refusals)
        print_table(("NEVER STARTED", "PODS", "FOR EXAMPLE"), refusals, width=_WIDTH)


def _rows(shown: Shown) -> Iterator[tuple[str, str]]:
    made, mean = shown.figures, shown.figures.mean
    yield "pods accepted", f"{made.accepted} of {made.pods}, {_share(made.accepted_share)}"
    yield "slots accepted", f"{made.accepted_slots} of {made.slots}, {_share(made.slot_share)}"
    if not shown.loss:
        yield "wait, mean", _time(made.waits.mean, shown.unit)
        yield "wait, 95 % at most", _time(made.waits.p95, shown.unit)
        yield "queue", f"{_number(mean.queue if mean else None)} pods on average, {made.longest_queue} at most"
        if made.still_waiting:
            yield "waiting for good", f"{made.still_waiting} pods"
    yield "utilisation", f"{_share(mean.utilisation if mean else None)} of the memory slots"
    yield "fragmentation", f"{_share(mean.fragmentation if mean else None)} of the free memory slots"
    yield "slices created", f"{_number(made.creates_per_accepted)} a pod accepted"
    yield "slices destroyed", f"{_number(made.destroys_per_accepted)} a pod accepted"
    yield "real time", f"{shown.wall_seconds:.2f} s"


def _kind_row(kind: KindFigures) -> tuple[str, ...]:
    accepted = f"{kind.accepted} ({_share(kind.accepted / kind.pods)})"
    return kind.demand, str(kind.pods), accepted, _number(kind.waits.mean), _number(kind.waits.p95)


def _kind(kind: KindFigures) -> dict[str, Any]:
    return {
        "profile": kind.demand,
        "pods": kind.pods,
        "accepted": kind.accepted,
        "acceptedShare": kind.accepted / kind.pods,
        **_waits(kind.waits),
    }


def _waits(waits: Waits) -> dict[str, float | None]:
    return {"meanWait": waits.mean, "p95Wait": waits.p95}


def _point(point: Point) -> dict[str, float]:
    return {
        "from": point.start,
        "until": point.end,
        "utilisation": point.utilisation,
        "queue": point.queue,
        "fragmentation": point.fragmentation,
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _time(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} ({unit})"
