"""The picture of a running demo: GPUs with their slices, and pods. A table on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cdmo.api.v1alpha1 import MigNode, ObservedGpu
from cdmo.cli.status import slots
from cdmo_harness.demo.answer import short
from cdmo_harness.demo.evidence import PodOutcome
from cdmo_harness.demo.scenario import Scenario
from cdmo_harness.demo.steps import Steps
from cdmo_harness.observer import ClusterView, PodSight, Repartitioned

# Seconds between two looks: five a second is smooth enough for changes of half a second, and costs little.
_PERIOD = 0.2

# Slices in use alternate between these, so that neighbours can be told apart; without colour the list tells.
_BUSY = ("bold green", "bold cyan")
_IDLE = "yellow"
_PHASES = {"Pending": "yellow", "Running": "green", "Failed": "bold red"}
_PICTURE_WIDTH = 80

Rows = Sequence[tuple[PodOutcome, float | None]]  # with the seconds to show


class Screen:
    """Draws a scenario while it runs."""

    def __init__(self, view: ClusterView, scenario: Scenario, steps: Steps) -> None:
        self._view = view
        self._scenario = scenario
        self._steps = steps
        self._news = News()
        self._titles = 0

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """The picture stands, and moves, inside the block."""
        console = self._steps.console
        live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if live is not None:
            live.start()
        task = asyncio.create_task(self._keep_drawing(live))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._draw(live)  # what came since the last look
            if live is not None:
                live.stop()  # the last picture stays
                self._steps.say("")

    def save(self, path: Path) -> None:
        """Write the picture of this moment as SVG."""
        picture = self._picture(height=None)
        console = Console(record=True, width=_PICTURE_WIDTH, file=io.StringIO(), force_terminal=True)
        console.print(picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without_fonts(console.export_svg(title="make demo")))

    async def _keep_drawing(self, live: Live | None) -> None:
        while True:
            self._draw(live)
            await asyncio.sleep(_PERIOD)

    def _draw(self, live: Live | None) -> None:
        if live is not None:
            self._say_titles()
            live.update(self._picture(height=self._steps.console.height), refresh=True)
            return
        for line in self._news.since(self._scenario.outcomes(), self._view.repartitions):
            self._steps.say(line)
        self._say_titles()

    def _say_titles(self) -> None:
        """After the news: what led to a title has come before it."""
        for title in self._scenario.titles[self._titles :]:
            self._titles += 1
            self._steps.say(title)

    def _picture(self, height: int | None) -> RenderableType:
        now = time.monotonic()
        rows = [(each, seconds(self._view.pods.get(key), now)) for key, each in self._keyed()]
        return picture(self._view.mignodes, rows, height=height)

    def _keyed(self) -> Iterator[tuple[str, PodOutcome]]:
        return zip((each.task.key for each in self._scenario.submitted), self._scenario.outcomes(), strict=True)


class News:
    """What a reader of lines was not told yet."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._repartitions = 0

    def since(self, outcomes: Sequence[PodOutcome], repartitions: Sequence[Repartitioned]) -> Iterator[str]:
        """A line for each pod that came to run or ended, and for each repartition."""
        for each in repartitions[self._repartitions :]:
            self._repartitions += 1
            report = each.report
            yield (
                f"         {each.node} repartitioned: fenced {report.fenced_seconds:.2f} s "
                f"(GPU {report.gpu_seconds:.2f} s, device plugin {report.reload_seconds:.2f} s)"
            )
        for pod in outcomes:
            if pod.seconds is not None and pod.device and self._first(pod.name, "Running"):
                yield f"{pod.seconds:5.2f} s  {pod.name} runs on {pod.node}: {short(pod.resource)} {pod.how}"
            if pod.phase == "Failed" and self._first(pod.name, pod.phase):
                yield f"         {pod.name} failed: {pod.message}"

    def _first(self, name: str, what: str) -> bool:
        known = (name, what) in self._told
        self._told.add((name, what))
        return not known


def picture(nodes: Mapping[str, MigNode], rows: Rows, *, height: int | None) -> Group:
    """GPUs above pods, at most 80 columns wide. Where the height does not suffice the oldest finished pods go."""
    upper, lines = _gpus(nodes)
    room = None if height is None else max(1, height - lines - 3)  # two headers and the line between
    return Group(upper, "", _pods(_newest(rows, room)))


def seconds(sight: PodSight | None, now: float) -> float | None:
    """From created to Running, or until now."""
    if sight is None:
        return None
    return sight.created_to_running if sight.running_at is not None else now - sight.seen_at


def without_fonts(svg: str) -> str:
    """The picture without rich's links to a font host: a reader's own monospaced font does, and no page calls out."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def _gpus(nodes: Mapping[str, MigNode]) -> tuple[Table, int]:
    """A row a GPU, and the number of lines below the header."""
    table = _table("NODE", "GPU", "PRODUCT", "SLOTS", "SLICES", "STATE")
    lines = 0
    for name, node in sorted(nodes.items()):
        phase = node.status.summary.phase
        state = Text("cutting", "bold magenta") if phase == "Repartitioning" else Text(phase.lower(), "dim")
        for number, gpu in enumerate(node.status.gpus):
            model = node.status.models[gpu.model]
            slices = _slices(node, gpu)
            lines += max(1, len(slices))
            product = model.product.removeprefix("NVIDIA ")
            table.add_row(name, str(number), product, _slots(node, gpu), Text("\n").join(slices), state)
    return table, lines


def _slices(node: MigNode, gpu: ObservedGpu) -> list[Text]:
    names = {each.id: each.name for each in node.status.models[gpu.model].profiles}
    busy = 0
    lines = []
    for device in sorted(gpu.devices, key=lambda each: each.start):
        style = _IDLE
        if device.state == "InUse":
            style = _BUSY[busy % len(_BUSY)]
            busy += 1
        whose = device.pod.name if device.pod else device.state.lower()
        lines.append(Text(f"{names.get(device.profile_id, '?'):<8}", style) + Text(whose, ""))
    return lines


def _slots(node: MigNode, gpu: ObservedGpu) -> Text:
    """The memory slots, each slice in the colour that it has in the list."""
    drawn = Text(slots(node, gpu), "dim")
    sizes = {each.id: each.size for each in node.status.models[gpu.model].profiles}
    busy = 0
    for device in sorted(gpu.devices, key=lambda each: each.start):
        style = _IDLE
        if device.state == "InUse":
            style = _BUSY[busy % len(_BUSY)]
            busy += 1
        drawn.stylize(f"not dim {style}", device.start, device.start + sizes.get(device.profile_id, 0))
    return drawn


def _newest(rows: Rows, room: int | None) -> Rows:
    if room is None or len(rows) <= room:
        return rows
    finished = [index for index, (pod, _) in enumerate(rows) if pod.phase in ("Succeeded", "Failed")]
    dropped = set(finished[: len(rows) - room])
    return [row for index, row in enumerate(rows) if index not in dropped][-room:]


def _pods(rows: Rows) -> Table:
    table = _table("POD", "QUEUE", "RESOURCE", "PHASE", "NODE", "SECONDS", "HOW")
    table.columns[5].justify = "right"
    for pod, elapsed in rows:
        shown = "" if elapsed is None else f"{elapsed:.2f}"
        phase = Text(pod.phase or "submitted", _PHASES.get(pod.phase, "dim"))
        table.add_row(pod.name, pod.queue or "-", short(pod.resource), phase, pod.node, shown, pod.how)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
