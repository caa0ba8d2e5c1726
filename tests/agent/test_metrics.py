"""What the agent measures."""

from __future__ import annotations

from prometheus_client import generate_latest

from cdmo.agent.change import Outcome, Phase, Result
from cdmo.agent.metrics import AgentMetrics, asked
from cdmo.runtime.worker import Worker
from cdmo.serving.asked import register
from tests.fakes.clock import VirtualClock


def value(metrics: AgentMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_changes_are_counted_by_result_and_their_fences_timed() -> None:
    metrics = AgentMetrics()
    metrics.change_ended(Outcome(Result.APPLIED, fenced_seconds=0.4))
    metrics.change_ended(Outcome(Result.FAILED, fenced_seconds=1.5, fence_lapsed=True))
    assert value(metrics, "cdmo_agent_changes_total", result="Applied") == 1
    assert value(metrics, "cdmo_agent_changes_total", result="Failed") == 1
    assert value(metrics, "cdmo_agent_changes_total", result="Undone") == 0
    assert value(metrics, "cdmo_agent_fence_seconds_sum") == 1.9
    assert value(metrics, "cdmo_agent_fences_lapsed_total") == 1


def test_phases_and_rounds() -> None:
    metrics = AgentMetrics()
    metrics.phase_ended(Phase.APPLY, 0.25)
    metrics.round_ended(finished=True)
    metrics.round_ended(finished=False)
    assert value(metrics, "cdmo_agent_phase_seconds_sum", phase="apply") == 0.25
    assert value(metrics, "cdmo_agent_rounds_total", result="finished") == 1
    assert value(metrics, "cdmo_agent_rounds_total", result="failed") == 1


def test_what_is_asked_is_of_the_moment() -> None:
    metrics, ready = AgentMetrics(), [True]
    worker = Worker("nvml", VirtualClock(), 1.0, lambda _: None)
    register(metrics.registry, asked(worker, ready=lambda: ready[0], heartbeat_age=lambda: 3.5))
    assert value(metrics, "cdmo_agent_ready") == 1
    ready[0] = False
    assert value(metrics, "cdmo_agent_ready") == 0
    assert value(metrics, "cdmo_agent_heartbeat_age_seconds") == 3.5
    assert value(metrics, "cdmo_agent_hung_calls_total") == 0
    assert value(metrics, "cdmo_agent_hung_call_seconds") == 0


def test_every_result_and_phase_is_there_before_it_ever_came() -> None:
    text = generate_latest(AgentMetrics().registry).decode()
    assert all(f'result="{each}"' in text for each in Result)
    assert all(f'phase="{each}"' in text for each in Phase)
