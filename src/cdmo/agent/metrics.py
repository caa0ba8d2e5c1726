"""What the agent measures. Every name, with its meaning, is in docs/reference/metrics.md as well."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram

from cdmo.agent.change import Outcome, Phase, Result
from cdmo.runtime.worker import Worker
from cdmo.serving.asked import Asked, one

# Seconds. A change takes a tenth of one at best and is given up after minutes.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class AgentMetrics:
    """Metrics of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._changes = Counter(
            "cdmo_agent_changes", "Changes of this node, by how they ended.", ["result"], registry=self.registry
        )
        self._phases = Histogram(
            "cdmo_agent_phase_seconds",
            "How long each phase of a change took.",
            ["phase"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._fenced = Histogram(
            "cdmo_agent_fence_seconds",
            "How long bindings to this node were held back by a change.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._lapsed = Counter(
            "cdmo_agent_fences_lapsed",
            "Changes during which bindings were possible all the same.",
            registry=self.registry,
        )
        self._rounds = Counter(
            "cdmo_agent_rounds", "Rounds of the agent, by whether they could be finished.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        for result in Result:
            self._changes.labels(result=result.value)
        for phase in Phase:
            self._phases.labels(phase=phase.value)
        for finished in (True, False):
            self._rounds.labels(result=_of_round(finished))

    def change_ended(self, outcome: Outcome) -> None:
        """A change is over."""
        self._changes.labels(result=outcome.result.value).inc()
        self._fenced.observe(outcome.fenced_seconds)
        if outcome.fence_lapsed:
            self._lapsed.inc()

    def phase_ended(self, phase: Phase, seconds: float) -> None:
        """A phase of a change is over."""
        self._phases.labels(phase=phase.value).observe(seconds)

    def round_ended(self, *, finished: bool) -> None:
        """A round is over."""
        self._rounds.labels(result=_of_round(finished)).inc()


def asked(worker: Worker, *, ready: Callable[[], bool], heartbeat_age: Callable[[], float]) -> tuple[Asked, ...]:
    """What is only looked up when somebody wants to know. `heartbeat_age` in seconds."""
    return (
        one("cdmo_agent_ready", "1 while the driver and the kubelet of this node answer.", ready),
        one(
            "cdmo_agent_heartbeat_age_seconds",
            "Since the API server last took a heartbeat of this agent; +Inf before the first.",
            heartbeat_age,
        ),
        one(
            "cdmo_agent_hung_call_seconds",
            "For how long a driver call has been hanging; 0 while none is.",
            lambda: worker.hanging_for,
        ),
        one("cdmo_agent_hung_calls", "Driver calls that had to be given up.", lambda: worker.hung_calls, counts=True),
        one("cdmo_agent_driver_calls_waiting", "Driver calls that wait for the one before.", lambda: worker.waiting),
    )


def _of_round(finished: bool) -> str:
    return "finished" if finished else "failed"
