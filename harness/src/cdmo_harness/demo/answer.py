"""What the demo answers on stdout: JSON for programs, tables of at most 80 columns for people."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from cdmo.api.v1alpha1 import Repartition
from cdmo.model.names import RESOURCE_PREFIX
from cdmo_harness.demo.evidence import PodOutcome

WIDTH = 80


class PodAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """One pod. `queue` is null for a pod that did not come through ClearML."""

    name: str
    queue: str | None
    resource: str
    node: str
    device: str
    created_to_running_seconds: float | None


class RepartitionAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """One change of a node, as its agent reported it, in seconds."""

    node: str
    fenced_seconds: float
    gpu_seconds: float
    reload_seconds: float


class Answer(msgspec.Struct, frozen=True):
    """The whole answer."""

    ok: bool
    pods: tuple[PodAnswer, ...]
    repartitions: tuple[RepartitionAnswer, ...]


def answer(ok: bool, pods: Iterable[PodOutcome], repartitions: Iterable[tuple[str, Repartition]]) -> Answer:
    """The answer of a run; repartitions come with their node."""
    return Answer(
        ok=ok,
        pods=tuple(
            PodAnswer(each.name, each.queue, each.resource, each.node, each.device, _rounded(each.seconds))
            for each in pods
        ),
        repartitions=tuple(
            RepartitionAnswer(node, each.fenced_seconds, each.gpu_seconds, each.reload_seconds)
            for node, each in repartitions
        ),
    )


def as_json(value: Answer) -> str:
    """One JSON object."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def as_tables(pods: Sequence[PodOutcome], repartitions: Sequence[tuple[str, Repartition]]) -> str:
    """A row a pod, the median of their times, a row a repartition."""
    ran = [each.seconds for each in pods if each.seconds is not None]
    table = _table("POD", "QUEUE", "RESOURCE", "NODE", seconds=("SECONDS",))
    table.add_column("HOW")
    for pod in pods:
        table.add_row(pod.name, pod.queue or "-", short(pod.resource), pod.node, _seconds(pod.seconds), pod.how)
    changes = _table("NODE", seconds=("FENCED s", "GPU s", "RELOAD s"))
    for node, each in repartitions:
        values = (each.fenced_seconds, each.gpu_seconds, each.reload_seconds)
        changes.add_row(node, *(_seconds(value) for value in values))
    middle = f"{median(ran):.2f} s" if ran else "none"
    return (
        f"Seconds from created to Running\n\n{_text(table)}\nmedian of {len(ran)} pods: {middle}\n\n"
        f"Repartitions: no pod can be bound to the node while it is fenced\n\n{_text(changes)}"
    )


def short(resource: str) -> str:
    """A resource without the part that all have."""
    return resource.removeprefix(RESOURCE_PREFIX)


def _table(*columns: str, seconds: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column)
    for column in seconds:
        table.add_column(column, justify="right")
    return table


def _text(table: Table) -> str:
    """Plain text: it may go to a file, and it reads as well without colour."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
