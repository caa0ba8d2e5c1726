"""What a kubelet's status tick makes of node.status, and the patch that says only what differs.

Modelled on pkg/kubelet/nodestatus/setters.go and component-helpers' node status patch. Pure: the last node object
this kubelet saw and the device manager's numbers go in, the new status comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .device_manager import Capacity
from .quantity import number

_NATIVE = frozenset({"cpu", "memory", "pods", "ephemeral-storage"})


def is_extended(resource: str) -> bool:
    """Whether a resource belongs to a plugin or a person, not to the kubelet itself."""
    return resource not in _NATIVE and not resource.startswith(("hugepages-", "attachable-volumes-"))


def resources_after_tick(
    capacity: Mapping[str, str],
    allocatable: Mapping[str, str],
    own: Mapping[str, str],
    devices: Capacity,
) -> tuple[dict[str, str], dict[str, str]]:
    """Capacity and allocatable as the tick leaves them.

    `own` is what the machine itself has (cpu, memory, pods …). A resource whose plugin went long ago gets
    capacity 0 and keeps its key. A key this kubelet knows nothing about keeps its capacity, and its allocatable
    is set back to that, whatever somebody wrote there.
    """
    new_capacity = dict(capacity)
    new_capacity.update(own)
    new_capacity.update({resource: str(count) for resource, count in devices.capacity.items()})
    new_capacity.update(dict.fromkeys(devices.removed, "0"))
    new_allocatable = {
        resource: amount
        for resource, amount in allocatable.items()
        if resource in new_capacity or not is_extended(resource)
    }
    new_allocatable.update(new_capacity)
    new_allocatable.update({resource: str(count) for resource, count in devices.allocatable.items()})
    return _keep_spelling(capacity, new_capacity), _keep_spelling(allocatable, new_allocatable)


def zeroed_extended(amounts: Mapping[str, str]) -> dict[str, str]:
    """All extended resources at 0: a kubelet that finds no checkpoint takes the node for a new one."""
    return {resource: "0" if is_extended(resource) else amount for resource, amount in amounts.items()}


def patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The strategic merge patch of `status`: differing keys only, null for keys that went.

    Lists are sent whole and merged by the API server by their merge key (conditions: type, addresses: type).
    """
    result: dict[str, Any] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            result[key] = patch(before, after)
        else:
            result[key] = after
    return result


def conditions(now: str, since: str) -> list[dict[str, str]]:
    """The conditions of a node in good health; `since` is when it became so, both RFC 3339."""
    healthy = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    )
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        }
        for kind, status, reason, message in healthy
    ]


def _keep_spelling(old: Mapping[str, str], new: dict[str, str]) -> dict[str, str]:
    """Use the old text of a quantity that did not change: the API server spells 536870912Ki its own way."""
    return {
        resource: old[resource] if resource in old and number(old[resource]) == number(amount) else amount
        for resource, amount in new.items()
    }
