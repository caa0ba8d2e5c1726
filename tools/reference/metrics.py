"""docs/reference/metrics.md: every metric that the two processes serve, as Prometheus' own library collects them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from cdmo.agent.metrics import AgentMetrics
from cdmo.agent.metrics import asked as asked_of_agent
from cdmo.controller.metrics import ControllerMetrics
from cdmo.controller.metrics import asked as asked_of_controller
from cdmo.runtime.clock import SystemClock
from cdmo.runtime.worker import Worker
from cdmo.serving.asked import Watch, common, register

HEAD = """<!-- Generated from the code's own metrics by tools/generate_reference.py (`make crd`); do not edit. -->

# Metrics

Served by both processes under `/metrics`, in Prometheus' text format. [Who may read
them](../operations.md#who-may-read-the-metrics). A label's values are listed where they are always there.
"""
_OPEN = frozenset({"kind"})  # labels whose values are another matter: a kind of object
_OF_THE_LIBRARY = frozenset({"le"})


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """One metric."""

    name: str
    type: str
    means: str
    labels: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def row(self) -> str:
        """Its line of the table."""
        labels = "; ".join(
            f"`{name}`" + (": " + ", ".join(f"`{each}`" for each in values) if values else "")
            for name, values in self.labels
        )
        return f"| `{self.name}` | {self.type} | {labels} | {self.means} |\n"


def registries() -> Mapping[str, CollectorRegistry]:
    """What the processes register, by the part of the page."""
    both, agent, controller = CollectorRegistry(), AgentMetrics().registry, ControllerMetrics().registry
    register(both, common((Watch("pods", lambda: True, lambda: 0),), lambda: 0, lambda: 0))
    worker = Worker("none", SystemClock(), 1.0, lambda _: None)
    register(agent, asked_of_agent(worker, ready=lambda: True, heartbeat_age=lambda: 0.0))
    register(controller, asked_of_controller(leads=lambda: True, pending=lambda: 0, promised=lambda: 0))
    return {"Of both": both, "Of the agent": agent, "Of the controller": controller}


def served(registry: CollectorRegistry) -> Iterable[Served]:
    """Every metric of a registry, in its order."""
    for metric in registry.collect():
        values: dict[str, set[str]] = {}
        for sample in metric.samples:
            for name, value in sample.labels.items():
                if name not in _OF_THE_LIBRARY:
                    values.setdefault(name, set()).add(value)
        labels = tuple((name, () if name in _OPEN else tuple(sorted(found))) for name, found in values.items())
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield Served(name, metric.type, metric.documentation, labels)


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for title, registry in registries().items():
        parts.append(f"\n## {title}\n\n| Metric | Type | Labels | Means |\n|---|---|---|---|\n")
        parts += [each.row for each in served(registry)]
    return "".join(parts)
