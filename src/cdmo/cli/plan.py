"""`cdmo plan`: what the controller would do about the objects in files. Changes nothing, needs no cluster."""

from __future__ import annotations

import gc
import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from cdmo.cli._output import print_json, print_table
from cdmo.model.gpu import Placement
from cdmo.model.plan import Plan
from cdmo.model.profile import Profile
from cdmo.model.snapshot import Assignment, SliceChoice, Snapshot
from cdmo.text import printable

HOW_TO_GET = "kubectl get nodes,pods,mignodes,priorityclasses -A -o json > FILE writes what is read here"
WIDTH = 80  # columns, where there is no terminal to ask


class PlanOutput(StrEnum):
    """The forms of a plan."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def plan(
    files: Annotated[
        list[str],
        typer.Option("--file", "-f", metavar="FILE", help="Kubernetes objects, JSON or YAML; - is standard input."),
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="FILE", help="More files, as after -f.")] = None,
    output: Annotated[PlanOutput, typer.Option("--output", "-o", help="Form of the answer.")] = PlanOutput.TABLE,
    reserve_after: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Keep a window for the oldest pod without room that is older than this, as the controller does "
            "after 300. Left out: none, for files do not tell since when a pod has been refused.",
        ),
    ] = None,
) -> None:
    """Show which slices would be cut for the pods in files, and why others wait. Changes nothing.

    Reads what `kubectl get nodes,pods,mignodes,priorityclasses -A -o json` prints. An object in a later file takes
    the place of an earlier one: pods and nodes that do not exist yet are one more file. Exit status 1: something in
    the files was wrong; the rest was planned.
    """
    from cdmo.kube.objects import read_snapshot
    from cdmo.model.policy import Policy
    from cdmo.planner import Planner
    from cdmo.runtime.clock import SystemClock
    from cdmo.simulation.cards import CARDS

    paths = [*files, *(more or ())]
    if paths.count("-") > 1:
        raise typer.BadParameter("standard input (-) can be read once")
    clock, policy = SystemClock(), Policy(reserve_after=math.inf if reserve_after is None else reserve_after)
    reading = read_snapshot(paths, clock.now(), stdin=sys.stdin.buffer, policy=policy, cards=CARDS)
    planner = Planner()
    planner.learn(reading.snapshot.nodes)  # as the controller's does while nodes come in
    gc.freeze()  # what was read lives until the end: nobody has to look through it for garbage
    began = clock.monotonic()
    made = planner.plan_once(reading.snapshot, policy)
    seconds = clock.monotonic() - began
    match output:
        case PlanOutput.JSON:
            print_json(as_json(made, seconds))
        case PlanOutput.YAML:
            sys.stdout.write(msgspec.yaml.encode(as_json(made, seconds)).decode())
        case PlanOutput.TABLE if reading.snapshot.nodes or reading.snapshot.pending or not reading.problems:
            _print(made, reading.snapshot)
    for note in reading.notes:
        typer.echo(f"note: {note}", err=True)
    for problem in reading.problems:
        typer.echo(f"error: {problem}", err=True)
    if reading.problems:
        if not reading.snapshot.nodes:
            typer.echo(f"hint: {HOW_TO_GET}", err=True)
        raise typer.Exit(1)


def as_json(made: Plan, seconds: float) -> dict[str, Any]:
    """The plan as people's programs read it. `seconds`: what planning took; all else depends on the objects alone."""
    return {
        "planSeconds": round(seconds, 6),
        "placements": [
            {
                "pod": printable(str(each.pod)),
                "node": printable(each.node),
                "slices": [
                    {"gpu": one.gpu, **_placement(one.placement), "action": one.action} for one in _slices(each)
                ],
            }
            for each in made.placements
        ],
        "gpus": [
            {
                "node": printable(each.node),
                "gpu": each.gpu,
                "create": [_placement(one) for one in each.create],
                "destroy": [_placement(one) for one in each.destroy],
            }
            for each in made.changes
            if each.create or each.destroy  # the rest only takes back what was asked for and never cut
        ],
        "waiting": [
            {"pod": printable(str(each.pod)), "code": str(each.code), "reason": printable(each.reason)}
            for each in made.waiting
        ],
    }


def _slices(assignment: Assignment) -> list[SliceChoice]:
    return sorted(assignment.slices, key=lambda each: (each.gpu, each.placement.start))


def _placement(placement: Placement) -> dict[str, int]:
    return {"profileId": placement.profile_id, "start": placement.start}


class _Words:
    """GPUs and placements as people call them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._profiles: dict[tuple[str, str], dict[int, Profile]] = {}
        for view in snapshot.nodes:
            tables = [{each.id: each for each in model.profiles} for model in view.models]
            for gpu in view.gpus:
                self._profiles[(view.node.name, gpu.pci_bus_id)] = (
                    tables[gpu.model] if gpu.model < len(tables) else {}
                )

    def placement(self, node: str, gpu: str, placement: Placement) -> str:
        """`3g.40gb at 4`; a profile without a name is called by its number."""
        profile = self._profiles.get((node, gpu), {}).get(placement.profile_id)
        return f"{profile.name if profile else placement.profile_id} at {placement.start}"


def _print(made: Plan, snapshot: Snapshot) -> None:
    words = _Words(snapshot)
    changes = [each for each in made.changes if each.create or each.destroy]
    if made.placements:
        _print_table(("POD", "NODE", "GPU", "SLICES"), _placement_rows(made, words))
    if changes:
        rows = (
            (
                each.node,
                _bus(each.gpu),
                *(
                    "\n".join(words.placement(each.node, each.gpu, one) for one in side)
                    for side in (each.destroy, each.create)
                ),
            )
            for each in changes
        )
        _print_table(("NODE", "GPU", "DESTROY", "CREATE"), rows)
    if made.waiting:
        _print_waiting(made)
    typer.echo(_summary(made, sum(len(each.destroy) for each in changes), len(changes)))


def _placement_rows(made: Plan, words: _Words) -> Iterator[tuple[str, ...]]:
    """A row a pod and GPU."""
    for each in made.placements:
        gpus = list(dict.fromkeys(one.gpu for one in _slices(each)))
        for number, gpu in enumerate(gpus):
            slices = [
                f"{one.action:6} {words.placement(each.node, gpu, one.placement)}"
                for one in _slices(each)
                if one.gpu == gpu
            ]
            yield ("" if number else str(each.pod), "" if number else each.node, _bus(gpu), "\n".join(slices))


def _print_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    print_table(columns, rows, width=WIDTH)
    typer.echo()


def _print_waiting(made: Plan) -> None:
    """Each reason once, under the pods it holds for."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    groups: dict[tuple[str, str], list[str]] = {}
    for each in made.waiting:
        groups.setdefault((str(each.code), each.reason), []).append(printable(str(each.pod)))
    typer.echo("WAITING")
    for (code, reason), pods in groups.items():
        for text, indent in ((f"{code}: {', '.join(pods)}", ""), (printable(reason), "  ")):
            typer.echo(
                textwrap.fill(text, width, initial_indent=indent, subsequent_indent="  ", break_on_hyphens=False)
            )
    typer.echo()


def _summary(made: Plan, destroyed: int, changed: int) -> str:
    actions = [one.action for each in made.placements for one in each.slices]
    return (
        f"{_count(len(made.placements), 'pod')} placed, {len(made.waiting)} waiting. Slices: "
        f"{actions.count('reuse')} reused, {actions.count('create')} created, {destroyed} destroyed "
        f"on {_count(changed, 'GPU')}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _bus(gpu: str) -> str:
    return gpu.removeprefix("00000000:")  # as lspci writes it: a row has to fit 80 columns
