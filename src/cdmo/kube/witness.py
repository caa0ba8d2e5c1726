"""A pod that never runs, by which the scheduler shows that it has heard of a change of a Node.

The pod may only go to that Node, only while the Node carries the label of this one change, and it asks for a resource
that no node has. A scheduler that has not heard says that no node matches; one that has says that the resource is
missing, in the pod's PodScheduled condition. How the scheduler words that is the same in 1.30 to 1.37
(noderesources/fit.go: "Insufficient <resource>").
"""

from __future__ import annotations

from typing import Any

import msgspec

from cdmo.api.decoding import decoder
from cdmo.errors import AlreadyExists, NotFound
from cdmo.kube.connect import Connection
from cdmo.kube.errors import translate
from cdmo.kube.lenient import Lenient
from cdmo.kube.resources import POD, Ask
from cdmo.model.names import CHANGE_LABEL, WITNESS_RESOURCE, witness_pod

_TRIES = 3
_AT_ONCE = msgspec.json.encode({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})


class _Condition(Lenient, frozen=True):
    type: str | None = None
    status: str | None = None
    message: str | None = None


class _Status(Lenient, frozen=True):
    conditions: list[_Condition] | None = None


class _Metadata(Lenient, frozen=True):
    labels: dict[str, str] | None = None


class _Pod(Lenient, frozen=True):
    metadata: _Metadata
    status: _Status | None = None


_decode = decoder(_Pod)


class KubeWitness:
    """See `cdmo.kube.port.WitnessApi`; the pods lie in `namespace`, CDMO's own."""

    def __init__(self, connection: Connection, namespace: str, scheduler: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._scheduler = scheduler

    async def call(self, node: str, change: str) -> None:
        """Make the witness of this change, in place of one that an earlier change left."""
        ask = Ask("create", POD, witness_pod(node), self._namespace)
        body = msgspec.json.encode(manifest(node, change, self._namespace, self._scheduler))
        for attempt in range(1, _TRIES + 1):
            try:
                await self._connection.call(ask, body=body)
            except AlreadyExists:
                if attempt == _TRIES:
                    raise
                await self.dismiss(node)
            else:
                return

    async def has_heard(self, node: str, change: str) -> bool:
        """Whether the scheduler has judged the witness by a Node that carries the label of this change. Raises
        NotFound when there is none."""
        ask = Ask("get", POD, witness_pod(node), self._namespace)
        body = await self._connection.call(ask)
        try:
            pod = _decode(body)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        return (pod.metadata.labels or {}).get(CHANGE_LABEL) == change and any(
            each.type == "PodScheduled" and each.status == "False" and WITNESS_RESOURCE in (each.message or "")
            for each in (pod.status.conditions if pod.status else None) or ()
        )

    async def dismiss(self, node: str) -> None:
        """Delete it; fine when there is none."""
        ask = Ask("delete", POD, witness_pod(node), self._namespace)
        try:
            await self._connection.call(ask, body=_AT_ONCE)
        except NotFound:
            return


def manifest(node: str, change: str, namespace: str, scheduler: str) -> dict[str, Any]:
    """The pod. Nothing of it ever runs, and it passes the strictest Pod Security level all the same."""
    here = {"key": "metadata.name", "operator": "In", "values": [node]}
    changed = {"key": CHANGE_LABEL, "operator": "In", "values": [change]}
    terms = [{"matchFields": [here], "matchExpressions": [changed]}]
    container = {
        "name": "never",
        "image": "never.invalid/never",
        "resources": {"limits": {WITNESS_RESOURCE: "1"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": witness_pod(node),
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": "cdmo",
                "app.kubernetes.io/component": "witness",
                CHANGE_LABEL: change,
            },
        },
        "spec": {
            "schedulerName": scheduler,
            "priorityClassName": "system-node-critical",  # judged before all others that wait
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            },
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }
