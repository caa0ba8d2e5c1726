"""What the controller measures."""

from __future__ import annotations

from cdmo.controller.metrics import ControllerMetrics, asked
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Waiting
from cdmo.model.reasons import WaitingCode
from cdmo.serving.asked import register


def value(metrics: ControllerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_pods_that_wait_are_counted_by_code_and_forgotten_when_they_do_not() -> None:
    metrics = ControllerMetrics()
    pods = [Waiting(PodKey("ml", f"p{number}"), WaitingCode.NO_ROOM, "…") for number in range(3)]
    metrics.waiting([*pods, Waiting(PodKey("ml", "x"), WaitingCode.NEVER_FITS, "…")])
    assert value(metrics, "cdmo_controller_waiting_pods", code="NoRoom") == 3
    assert value(metrics, "cdmo_controller_waiting_pods", code="NeverFits") == 1
    metrics.waiting([])
    assert all(value(metrics, "cdmo_controller_waiting_pods", code=each) == 0 for each in WaitingCode)


def test_rounds_and_plans() -> None:
    metrics = ControllerMetrics()
    metrics.planned(0.02, 3)
    metrics.round_ended(finished=False)
    assert value(metrics, "cdmo_controller_plan_seconds_count") == 1
    assert value(metrics, "cdmo_controller_broken_rules_total") == 3
    assert value(metrics, "cdmo_controller_rounds_total", result="failed") == 1
    assert value(metrics, "cdmo_controller_rounds_total", result="finished") == 0


def test_what_is_asked_is_of_the_moment() -> None:
    metrics, leads = ControllerMetrics(), [False]
    register(metrics.registry, asked(leads=lambda: leads[0], pending=lambda: 7, promised=lambda: 2))
    assert value(metrics, "cdmo_controller_leader") == 0
    leads[0] = True
    assert value(metrics, "cdmo_controller_leader") == 1
    assert value(metrics, "cdmo_controller_pending_pods") == 7
    assert value(metrics, "cdmo_controller_promises") == 2
