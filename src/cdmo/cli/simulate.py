"""`cdmo simulate`: the planner in virtual time over a workload. Changes nothing, needs no cluster."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cdmo.cli._options import OutputOption
from cdmo.cli._output import Output, print_json
from cdmo.errors import BadInput, BadSettings
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import Snapshot
from cdmo.simulation.workload import Workload
from cdmo.text import printable

DEFAULT_PRODUCT = "NVIDIA H100 80GB HBM3"
DEFAULT_GPUS = 8
DEFAULT_LOAD, DEFAULT_SEED, DEFAULT_ARRIVALS = 1.0, 1, 15_000
# A window is kept for a pod that waited for half a mean run time; a trace is taken to be in seconds.
RESERVE_AFTER_MIX, RESERVE_AFTER_TRACE = 0.5, 300.0

QUIET_SECONDS = 2.0  # real time before progress is shown
_SHOWN_PROBLEMS = 20

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, as it was typed; None where it was not."""

    trace: Path | None
    mix: str | None
    load: float | None
    seed: int | None
    arrivals: int | None
    files: Sequence[str]
    nodes: int | None
    gpus_per_node: int | None
    product: str | None
    loss: bool
    warmup: float
    reserve_after: float | None
    plot: Path | None

    def check(self) -> None:
        """Refuse what cannot be simulated before anything is read or run. Raises BadSettings."""
        if (self.trace is None) == (self.mix is None):
            what = "no workload was given" if self.trace is None else "--trace and --mix were both given"
            raise BadSettings(what, hint="give either --trace FILE.csv or --mix NAME, such as --mix uniform")
        made_up = {"--load": self.load, "--seed": self.seed, "--arrivals": self.arrivals}
        _together("--mix", self.mix is not None, made_up, "a trace says itself which pods arrive and when")
        if not self.files and self.nodes is None:
            raise BadSettings("no cluster was given", hint="give --nodes N, or -f with Nodes and MigNodes")
        equal = {"--nodes": self.nodes, "--gpus-per-node": self.gpus_per_node, "--product": self.product}
        _together("--nodes", not self.files, equal, "-f says itself which nodes there are")
        if not 0 <= self.warmup < 1:
            raise BadSettings(
                f"--warmup {self.warmup:g} is not a share of the arrivals",
                hint="give 0 or more, less than 1, such as 0.2",
            )
        if self.reserve_after is not None and not self.reserve_after >= 0.0:  # also refuses NaN
            raise BadSettings(f"--reserve-after {self.reserve_after:g} is below 0", hint="give 0 or more")
        if self.plot is not None:
            from cdmo.cli._plot import check_plot

            check_plot(self.plot)


def simulate(
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", metavar="FILE.csv", help="Pods from a file: pod,arrival,duration,resources,priority."
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option("--mix", help="Pods made up instead: uniform, skew-small, skew-big, bimodal or classic."),
    ] = None,
    load: Annotated[
        float | None, typer.Option("--load", help="Slots asked for by a mix, as a share of all. Default: 1.0")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Which random numbers a mix uses. Default: 1")] = None,
    arrivals: Annotated[int | None, typer.Option("--arrivals", help="Pods of a mix. Default: 15000")] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="The cluster: objects as `cdmo plan` reads them."),
    ] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", help="A cluster of this many equal nodes instead.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option("--gpus-per-node", help="Default: 8")] = None,
    product: Annotated[
        str | None,
        typer.Option("--product", help=f"Their GPU, as nvidia-smi -L names it. Default: {DEFAULT_PRODUCT}"),
    ] = None,
    loss: Annotated[
        bool, typer.Option("--loss", help="A pod without a place on arrival is gone, instead of waiting for one.")
    ] = False,
    warmup: Annotated[
        float, typer.Option("--warmup", help="Share of the arrivals, the first ones, left out of the figures.")
    ] = 0.2,
    reserve_after: Annotated[
        float | None,
        typer.Option(
            "--reserve-after",
            help="Virtual time after which a window is kept for a blocked pod. Default: 300, with --mix 0.5",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg|png", help="Draw how it went (needs cdmo[plot]).")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the planner in virtual time over a workload, and say how many pods it placed and how long they waited."""
    from cdmo.runtime.clock import SystemClock

    asked = Options(
        trace, mix, load, seed, arrivals, file or (), nodes, gpus_per_node, product, loss, warmup, reserve_after, plot
    )
    asked.check()
    clock = SystemClock()
    around, problems = _cluster(asked, clock.now)
    _simulate(asked, around, problems, output, clock.monotonic)
    if problems:
        raise typer.Exit(1)


def _simulate(asked: Options, around: Snapshot, problems: list[str], output: Output, clock: Clock) -> None:
    """Run, print and draw. Sentences about what was left out are added to `problems` and told on stderr."""
    from cdmo.cli._simulated import Shown, as_json, print_figures
    from cdmo.model.policy import Policy
    from cdmo.planner import Planner
    from cdmo.simulation.figures import figures
    from cdmo.simulation.fragmentation import Stranded
    from cdmo.simulation.run import Simulation
    from cdmo.simulation.world import World, capacity_of

    capacity = capacity_of(around.nodes)
    if not capacity:
        _tell(problems)
        raise BadInput(
            "no GPU of this cluster can be cut",
            hint="the files need labelled Nodes and their MigNodes, with MIG enabled and agents that work",
        )
    began = clock()
    workload, source, unit, patience = _workload(asked, capacity, problems)
    _tell(problems)
    world = World(around.nodes, Stranded(workload.demand_weights()))
    policy = Policy(reserve_after=patience)
    progress = Progress(len(workload.jobs), clock)
    course = Simulation(world, around, Planner(), policy, loss=asked.loss, progress=progress.at).run(
        workload, asked.warmup
    )
    progress.over()
    made = figures(course, world.size)
    shown = Shown(made, source, len(around.nodes), world.gpus, world.total, unit, asked.loss, clock() - began)
    if asked.plot is not None:
        from cdmo.cli._plot import draw

        title = f"{source}, {world.gpus} GPUs on {len(around.nodes)} nodes, " + ("loss" if asked.loss else "queueing")
        draw(made, asked.plot, title, unit, loss=asked.loss)

    if output is Output.JSON:
        print_json(as_json(shown, len(problems)))
    else:
        print_figures(shown)


def _cluster(asked: Options, now: Clock) -> tuple[Snapshot, list[str]]:
    """Nodes of the simulation, with nothing pending, and what was wrong in files."""
    from cdmo.model.policy import Policy
    from cdmo.simulation.cards import CARDS
    from cdmo.simulation.catalogue import model_of
    from cdmo.simulation.cluster import equal_nodes

    if not asked.files:
        model = model_of(DEFAULT_PRODUCT if asked.product is None else asked.product)
        per_node = DEFAULT_GPUS if asked.gpus_per_node is None else asked.gpus_per_node
        return Snapshot(0.0, equal_nodes(model, asked.nodes or 0, per_node), ()), []
    from cdmo.kube.objects import read_snapshot

    reading = read_snapshot(asked.files, now(), stdin=sys.stdin.buffer, policy=Policy(), cards=CARDS)
    if reading.snapshot.pending:
        typer.echo(f"note: {len(reading.snapshot.pending)} pods that wait in the files are not simulated", err=True)
    return reading.snapshot, list(reading.problems)


def _workload(asked: Options, capacity: dict[GpuModel, int], problems: list[str]) -> tuple[Workload, str, str, float]:
    """The workload, what to call it, the unit of its time, and how long a blocked pod waits for a window."""
    from cdmo.simulation.workload import MixSettings, generate

    if asked.mix is not None:
        load = DEFAULT_LOAD if asked.load is None else asked.load
        seed = DEFAULT_SEED if asked.seed is None else asked.seed
        count = DEFAULT_ARRIVALS if asked.arrivals is None else asked.arrivals
        settings = MixSettings(asked.mix, load, count, asked.loss)
        uniform = random.Random(seed).random  # noqa: S311 a workload is to be repeatable, not secret
        patience = RESERVE_AFTER_MIX if asked.reserve_after is None else asked.reserve_after
        name = f"mix {asked.mix} at load {load:g}, seed {seed}"
        return generate(settings, capacity, uniform), name, "mean run times", patience
    assert asked.trace is not None  # Options.check
    workload = _read(asked.trace, problems)
    patience = RESERVE_AFTER_TRACE if asked.reserve_after is None else asked.reserve_after
    return workload, f"trace {asked.trace.name}", "the trace's unit", patience


def _read(path: Path, problems: list[str]) -> Workload:
    from cdmo.simulation.trace import lines_of, read_trace

    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as lines:
            trace = read_trace(lines_of(lines.readline, str(path)), str(path))
    except OSError as error:
        raise BadInput(f"--trace: {path} cannot be read: {error.strerror}", hint="name a CSV file") from error
    problems += trace.problems
    if not trace.workload.jobs:
        _tell(problems)
        raise BadInput(
            f"{path} has no pod that can be simulated", hint="a line a pod, below the line of column names"
        )
    return trace.workload


def _tell(problems: Sequence[str]) -> None:
    for each in problems[:_SHOWN_PROBLEMS]:
        sys.stderr.write(f"error: {printable(each)}\n")
    if len(problems) > _SHOWN_PROBLEMS:
        sys.stderr.write(f"error: and {len(problems) - _SHOWN_PROBLEMS} more like these\n")
    if problems:
        sys.stderr.write("hint: what these name is left out, the rest is simulated\n")


def _together(option: str, given: bool, others: Mapping[str, object], reason: str) -> None:
    if not given:
        for name, value in others.items():
            if value is not None:
                raise BadSettings(f"{name} does not go with the other options: {reason}", hint=f"leave {name} out")


class Progress:
    """How far a long run is, on one line of stderr, if that is a terminal."""

    def __init__(self, total: int, clock: Clock) -> None:
        self._total = total
        self._clock = clock
        self._next = clock() + QUIET_SECONDS
        self._shown = False

    def at(self, arrived: int) -> None:
        """So many pods have arrived."""
        if self._clock() < self._next or not sys.stderr.isatty():
            return
        self._next = self._clock() + 0.2
        self._shown = True
        sys.stderr.write(f"\rsimulated {arrived} of {self._total} pods")
        sys.stderr.flush()

    def over(self) -> None:
        """Leave no line behind."""
        if self._shown:
            sys.stderr.write("\r\033[K")
