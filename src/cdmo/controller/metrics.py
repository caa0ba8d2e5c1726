"""What the controller measures. Every name, with its meaning, is in docs/reference/metrics.md as well."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cdmo.model.plan import Waiting
from cdmo.model.reasons import WaitingCode
from cdmo.serving.asked import Asked, one

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class ControllerMetrics:
    """Metrics of one controller, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rounds = Counter(
            "cdmo_controller_rounds",
            "Rounds of a controller that leads, by whether they could be finished.",
            ["result"],
            registry=self.registry,
        )
        self._plan = Histogram(
            "cdmo_controller_plan_seconds",
            "How long it took to make a plan and check it.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._waiting = Gauge(
            "cdmo_controller_waiting_pods",
            "Pods that the last plan has no place for, by the code of their reason.",
            ["code"],
            registry=self.registry,
        )
        self._broken = Counter(
            "cdmo_controller_broken_rules",
            "Rules that plans broke before they were published: a fault of CDMO, its log names them.",
            registry=self.registry,
        )
        for finished in (True, False):
            self._rounds.labels(result=_of_round(finished))
        self.waiting(())

    def round_ended(self, *, finished: bool) -> None:
        """A round is over."""
        self._rounds.labels(result=_of_round(finished)).inc()

    def planned(self, seconds: float, broken: int) -> None:
        """A plan was made; `broken`: rules that it broke at first."""
        self._plan.observe(seconds)
        self._broken.inc(broken)

    def waiting(self, entries: Iterable[Waiting]) -> None:
        """Who waits by the last plan."""
        counts = Counted(str(each.code) for each in entries)
        for code in WaitingCode:
            self._waiting.labels(code=code.value).set(counts[code.value])


def asked(*, leads: Callable[[], bool], pending: Callable[[], int], promised: Callable[[], int]) -> tuple[Asked, ...]:
    """What is only looked up when somebody wants to know."""
    return (
        one("cdmo_controller_leader", "1 while this controller leads.", leads),
        one("cdmo_controller_pending_pods", "Pods that wait for slices, as far as the last round saw.", pending),
        one("cdmo_controller_promises", "Pods that slices are promised to and that are not bound yet.", promised),
    )


def _of_round(finished: bool) -> str:
    return "finished" if finished else "failed"
