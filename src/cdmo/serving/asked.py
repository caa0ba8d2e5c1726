"""Metrics that are looked up when somebody asks, and those that both processes have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Asked:
    """One of them. `values` gives the value by the label's value; without a label the one key is empty."""

    name: str
    meaning: str
    values: Callable[[], Mapping[str, float]]
    label: str = ""
    counts: bool = False  # a counter: it only grows


def one(name: str, meaning: str, value: Callable[[], float], *, counts: bool = False) -> Asked:
    """A metric without a label."""
    return Asked(name, meaning, lambda: {"": float(value())}, counts=counts)


def register(registry: CollectorRegistry, metrics: Iterable[Asked]) -> None:
    """Have the registry ask for these whenever it is read."""
    registry.register(_Collector(tuple(metrics)))


class _Collector(Collector):
    def __init__(self, metrics: tuple[Asked, ...]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for each in self._metrics:
            family = CounterMetricFamily if each.counts else GaugeMetricFamily
            labels = [each.label] if each.label else []
            metric = family(each.name, each.meaning, labels=labels)
            for of, value in each.values().items():
                metric.add_metric([of] if each.label else [], float(value))
            yield metric


@dataclass(frozen=True, slots=True)
class Watch:
    """What can be told of one watch."""

    kind: str
    synced: Callable[[], bool]
    objects: Callable[[], int]


def common(
    watches: Iterable[Watch], events_queued: Callable[[], int], events_dropped: Callable[[], int]
) -> list[Asked]:
    """The metrics of every process of CDMO."""
    known = tuple(watches)
    return [
        Asked(
            "cdmo_watch_synced",
            "1 while the process' copy of this kind is complete and follows the API server.",
            lambda: {each.kind: float(each.synced()) for each in known},
            "kind",
        ),
        Asked(
            "cdmo_watch_objects",
            "Objects of this kind that the process keeps a copy of.",
            lambda: {each.kind: float(each.objects()) for each in known},
            "kind",
        ),
        one("cdmo_events_queued", "Events that wait to be written.", events_queued),
        one("cdmo_events_dropped", "Events that were never written.", events_dropped, counts=True),
    ]
