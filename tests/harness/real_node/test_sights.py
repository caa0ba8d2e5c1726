"""What is counted of a real node's pods, from their objects alone."""

from __future__ import annotations

from typing import Any

import pytest
from cdmo_harness.real_node.sights import PodSight

RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def pod(phase: str, state: dict[str, Any] | None = None, *, deleting: bool = False, **status: Any) -> dict[str, Any]:
    """A pod's object with one container."""
    metadata = {"name": "pod"} | ({"deletionTimestamp": "2026-01-01T00:00:01Z"} if deleting else {})
    container = {"name": "main", "state": state or {}, "containerID": "containerd://c0ffee"}
    statuses = {"containerStatuses": [container]} if state else {}
    return {"metadata": metadata, "status": {"phase": phase, **statuses, **status}}


def ended(reason: str = "Completed", code: int = 0) -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": code, "startedAt": "2026-01-01T00:00:00Z"}}


def sight(*states: dict[str, Any]) -> PodSight:
    """All that is seen of a pod that goes through these states."""
    seen = PodSight("pod")
    for each in states:
        seen.take(each)
    return seen


@pytest.mark.parametrize("reason", ["UnexpectedAdmissionError", "OutOfnvidia.com/mig-1g.10gb"])
def test_a_pod_that_admission_refuses_is_counted_by_its_message(reason: str) -> None:
    seen = sight(pod("Pending"), pod("Failed", reason=reason, message="Pod was rejected: because"))
    assert (seen.rejected, seen.started) == ("Pod was rejected: because", False)


def test_a_pod_that_ran_to_its_end_has_started_and_completed() -> None:
    seen = sight(pod("Pending"), pod("Running", RUNNING), pod("Succeeded", ended()))
    assert (seen.started, seen.ended_by_itself, seen.deleted_running) == (True, True, False)
    assert seen.containers == {"c0ffee": "main"}


def test_a_pod_that_failed_by_itself_has_completed_too() -> None:
    seen = sight(pod("Running", RUNNING), pod("Failed", ended("Error", 3)))
    assert (seen.rejected, seen.ended_by_itself) == (None, True)


def test_a_pod_deleted_while_it_ran_counts_as_killed_and_not_as_completed() -> None:
    seen = sight(
        pod("Running", RUNNING),
        pod("Running", RUNNING, deleting=True),
        pod("Failed", ended("Error", 143), deleting=True),
    )
    assert (seen.ended_by_itself, seen.deleted_running) == (False, True)


def test_a_pod_deleted_after_its_end_stays_completed() -> None:
    seen = sight(pod("Succeeded", ended()), pod("Succeeded", ended(), deleting=True))
    assert (seen.ended_by_itself, seen.deleted_running) == (True, False)


def test_a_container_that_the_runtime_refused_has_not_started() -> None:
    seen = sight(pod("Failed", ended("StartError", 128)))
    assert (seen.started, seen.ended_by_itself) == (False, False)


def test_a_container_that_waits_for_a_device_node_is_noted() -> None:
    message = "failed to create containerd container: lstat /x/nvidia-cap12: no such file or directory"
    assert sight(pod("Pending", {"waiting": {"reason": "CreateContainerError", "message": message}})).missed_node
