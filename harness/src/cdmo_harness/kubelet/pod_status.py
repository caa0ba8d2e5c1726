"""The status a kubelet reports for a pod, from its phase to the ids of its devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .devices import HEALTHY
from .pods import Container, Pod

_NEVER = "1970-01-01T00:00:00Z"  # what containerd says of a container that did not start


@dataclass(frozen=True, slots=True)
class Run:
    """How far a pod's containers are. Times are RFC 3339; `waiting` and `failed` are (reason, message).

    `failed`: the runtime could not start them, which ends them for good where nothing restarts them.
    """

    started: str | None = None
    finished: str | None = None
    exit_code: int = 0
    waiting: tuple[str, str] = ("ContainerCreating", "")
    failed: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod runs."""

    host_ip: str
    pod_ip: str
    admitted: str  # RFC 3339


def rejected(pod: Pod, reason: str, message: str) -> dict[str, Any]:
    """The status of a pod that admission refused: final."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "qosClass": qos_class(pod),
    }


def running(
    pod: Pod, place: Place, run: Run, devices: Mapping[str, Mapping[str, Sequence[tuple[str, str]]]]
) -> dict[str, Any]:
    """The status of an admitted pod. `devices`: container -> resource -> (device id, health)."""
    ended = run.finished is not None
    up = run.started is not None and not ended
    phase = "Pending"
    if up:
        phase = "Running"
    elif ended:
        phase = "Succeeded" if run.exit_code == 0 else "Failed"
    status: dict[str, Any] = {
        "phase": phase,
        "hostIP": place.host_ip,
        "hostIPs": [{"ip": place.host_ip}],
        "startTime": place.admitted,
        "qosClass": qos_class(pod),
        "conditions": _conditions(run, up=up, ended=ended, place=place),
        "containerStatuses": [_container(pod, c, run, devices.get(c.name, {})) for c in pod.containers],
    }
    if pod.init_containers:
        status["initContainerStatuses"] = [
            _container(pod, c, run, devices.get(c.name, {}) if c.sidecar else {}) if c.sidecar else _init(pod, c, run)
            for c in pod.init_containers
        ]
    if run.started is not None:
        status["podIP"] = place.pod_ip
        status["podIPs"] = [{"ip": place.pod_ip}]
    return status


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, by the rules of the API."""
    containers = (*pod.init_containers, *pod.containers)
    amounts = [{k: v for k, v in c.requests.items() if k in ("cpu", "memory")} for c in containers]
    limits = [{k: v for k, v in c.limits.items() if k in ("cpu", "memory")} for c in containers]
    if not any(amounts) and not any(limits):
        return "BestEffort"
    if all(len(have) == 2 and have == most for have, most in zip(amounts, limits, strict=True)):
        return "Guaranteed"
    return "Burstable"


def _conditions(run: Run, *, up: bool, ended: bool, place: Place) -> list[dict[str, str | None]]:
    reason = ""
    if not up:
        reason = "PodCompleted" if ended and run.exit_code == 0 else "ContainersNotReady"
        if ended and run.exit_code != 0:
            reason = "PodFailed"
    sandbox = run.started is not None and not ended
    states = (
        ("PodReadyToStartContainers", sandbox, ""),
        ("Initialized", True, "PodCompleted" if ended and run.exit_code == 0 else ""),
        ("Ready", up, reason),
        ("ContainersReady", up, reason),
    )
    since = run.finished or run.started or place.admitted
    result: list[dict[str, str | None]] = []
    for kind, holds, why in states:
        # Conditions are merged into the old ones by type: what is left out would stay.
        condition = {"type": kind, "status": "True" if holds else "False", "reason": why or None}
        result.append({**condition, "lastTransitionTime": since})
    return result


def _container(
    pod: Pod, container: Container, run: Run, devices: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, Any]:
    up = run.started is not None and run.finished is None
    status: dict[str, Any] = {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": up,
        "started": up,
        "restartCount": 0,
        "state": _state(pod, container, run),
    }
    if run.started is not None:
        status["containerID"] = _container_id(pod, container)
    if devices:
        status["allocatedResourcesStatus"] = [
            {
                "name": resource,
                "resources": [
                    {"resourceID": device_id, "health": "Healthy" if health == HEALTHY else "Unhealthy"}
                    for device_id, health in held
                ],
            }
            for resource, held in devices.items()
        ]
    return status


def _state(pod: Pod, container: Container, run: Run) -> dict[str, Any]:
    if run.started is None and run.finished is None:
        reason, message = run.waiting
        return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
    if run.finished is None:
        return {"running": {"startedAt": run.started}}
    reason, message = run.failed or ("Completed" if run.exit_code == 0 else "Error", "")
    ended = {
        "exitCode": run.exit_code,
        "reason": reason,
        "startedAt": run.started or _NEVER,
        "finishedAt": run.finished,
        "containerID": _container_id(pod, container),
    }
    return {"terminated": {**ended, "message": message} if message else ended}


def _init(pod: Pod, container: Container, run: Run) -> dict[str, Any]:
    done = run.started is not None
    status: dict[str, Any] = {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": done,
        "started": False,
        "restartCount": 0,
    }
    if done:
        status["containerID"] = _container_id(pod, container)
        status["state"] = {
            "terminated": {
                "exitCode": 0,
                "reason": "Completed",
                "startedAt": run.started,
                "finishedAt": run.started,
                "containerID": _container_id(pod, container),
            }
        }
    else:
        status["state"] = {"waiting": {"reason": "PodInitializing"}}
    return status


def _container_id(pod: Pod, container: Container) -> str:
    return f"cdmo-harness://{pod.uid}/{container.name}"
