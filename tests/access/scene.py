"""Two GPU nodes that belong to one test, with their agents' tokens, as a busy cluster leaves them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from cdmo_harness.control_plane import ControlPlane

from tests.access.caller import MERGE, MIGNODES, NODES, Act, Caller, Json

OWN_TAINT = {"key": "cdmo.clear.ml/repartitioning", "effect": "NoSchedule"}
OTHERS_TAINT = {"key": "team", "value": "vision", "effect": "NoSchedule"}
MIG = "nvidia.com/mig-1g.10gb"

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Scene:
    """Node `own` with its agent, node `other` with its own, and everybody else who acts."""

    own: str
    other: str
    admin: Caller
    agent: Caller  # its token is bound to node `own`
    other_agent: Caller
    unbound: Caller  # the agents' account, a token without a node
    controller: Caller

    def node(self, name: str = "") -> Json:
        """A Node as it is, without what every write changes."""
        return _timeless(self.admin.get(f"{NODES}/{name or self.own}"))

    def mignode(self, name: str = "") -> Json:
        """A MigNode as it is, without what every write changes."""
        return _timeless(self.admin.get(f"{MIGNODES}/{name or self.own}"))

    def everything(self) -> tuple[Json, ...]:
        """All that an attack could have changed."""
        return tuple(one for name in (self.own, self.other) for one in (self.node(name), self.mignode(name)))


@contextmanager
def staged(cluster: ControlPlane, admin: Caller, unbound: Caller, controller: Caller) -> Iterator[Scene]:
    """A scene with nodes of its own; they are gone afterwards."""
    number = next(_numbers)
    own, other = f"gpu-{number}-own", f"gpu-{number}-other"
    for name in (own, other):
        make_node(admin, name)
    with ExitStack() as stack:
        agents = [
            stack.enter_context(Caller(cluster.service_account_kubeconfig("cdmo", "cdmo-agent", node=each)))
            for each in (own, other)
        ]
        yield Scene(own, other, admin, agents[0], agents[1], unbound, controller)
    for name in (own, other):
        for path in (f"{MIGNODES}/{name}", f"{NODES}/{name}"):
            admin.do(Act("PATCH", path, {"metadata": {"finalizers": None}}, MERGE))
            admin.do(Act("DELETE", path))


def make_node(admin: Caller, name: str) -> Json:
    """A labelled Node with a bit of everything that others keep on Nodes, and its MigNode."""
    metadata = {
        "name": name,
        "labels": {"kubernetes.io/hostname": name, "cdmo.clear.ml/gpu-partitioning": "mig", "team": "vision"},
        "annotations": {"example.com/owner": "vision"},
    }
    # As agents and others leave it: their taint and the fence beside each other.
    spec = {"taints": [OTHERS_TAINT]}
    node = admin.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec})
    amounts = {
        "cpu": "64",
        "memory": "256Gi",
        "pods": "110",
        "nvidia.com/gpu": "0",
        "example.com/fpga": "2",
        MIG: "1",
    }
    status = {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}],
        "images": [{"names": ["registry.example/app:1"], "sizeBytes": 1000}],
    }
    # The admission of Nodes adds a taint to new ones; the node's own is what these tests start from.
    admin.merge(f"{NODES}/{name}", {"spec": spec})
    admin.merge(f"{NODES}/{name}/status", {"status": status})
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
    return admin.create(MIGNODES, mignode_manifest(name, owner))


def mignode_manifest(name: str, *owners: Json, **metadata: Any) -> Json:
    """A MigNode as the controller makes it."""
    return {
        "apiVersion": "cdmo.clear.ml/v1alpha1",
        "kind": "MigNode",
        "metadata": {"name": name, "ownerReferences": list(owners), **metadata},
        "spec": {"mode": "Managed", "gpus": [], "observedRevision": 0},
    }


def _timeless(content: Json) -> Json:
    hidden = ("managedFields", "resourceVersion", "generation")
    return {**content, "metadata": {key: each for key, each in content["metadata"].items() if key not in hidden}}
