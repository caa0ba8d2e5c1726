"""The planner's word on where a pod may run, against that of the real kube-scheduler.

They must agree on every pod and node. Two differences are meant, and thus not in these worlds: a node that is not
ready is out for every pod (the scheduler goes by the taints that such a node gets, which a pod may tolerate), and the
taint with which CDMO's agent closes a node bars nobody (it is gone before the pod is bound).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

import pytest
import structlog
from cdmo_harness.binaries import Binaries

from cdmo.kube.slim import node_info, pod_info
from cdmo.kube.slim_storage import claim_info, class_info, namespace_labels, volume_info
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.storage import Storage
from cdmo.planner.eligible import Eligibility, Obstacle, room_of, shortage
from cdmo.planner.relations import Relations
from tests.scheduler.judge import Cluster, judged
from tests.scheduler.worlds import Json, make_world

T = TypeVar("T")

log = structlog.get_logger(__name__)

SEED = "CDMO_SCHEDULER_SEED"
WORLDS = "CDMO_SCHEDULER_WORLDS"  # how many worlds, for a longer run
FEW = 12  # with 26 pods and 10 nodes each: 3,120 verdicts inside worlds, 37,440 in all


class Planner:
    """What the planner makes of a cluster's objects."""

    def __init__(self, cluster: Cluster) -> None:
        storage = Storage(
            {f"{one.namespace}/{one.name}": one for one in _read(claim_info, cluster, "persistentvolumeclaims")},
            {one.name: one for one in _read(volume_info, cluster, "persistentvolumes")},
            {one.name: one for one in _read(class_info, cluster, "storageclasses")},
        )
        self.nodes = list(_read(node_info, cluster, "nodes"))
        pods = [storage.with_volumes(pod) for pod in _read(pod_info, cluster, "pods")]
        self.pending = {f"{pod.key.namespace}/{pod.key.name}": pod for pod in pods if not pod.node_name}
        on: dict[str, list[PodInfo]] = {node.name: [] for node in self.nodes}
        for pod in pods:
            if pod.node_name and not pod.finished:
                on[pod.node_name].append(pod)
        self._rooms = {node.name: room_of(node, on[node.name]) for node in self.nodes}
        namespaces = {item["metadata"]["name"]: namespace_labels(_raw(item)) for item in cluster.items["namespaces"]}
        self._relations = Relations(((node, on[node.name]) for node in self.nodes), namespaces)
        self._eligibility = Eligibility()

    def verdicts(self, pod: PodInfo) -> Iterable[tuple[NodeInfo, Obstacle | None]]:
        """What stands in the pod's way on each node."""
        for node, found in zip(self.nodes, self._eligibility.judge(pod, self.nodes), strict=True):
            yield node, (found or shortage(pod, node, self._rooms[node.name]) or self._relations.obstacle(pod, node))


def _raw(item: Json) -> bytes:
    return json.dumps(item).encode()


def _read(convert: Callable[[bytes], T], cluster: Cluster, plural: str) -> Iterable[T]:
    return (convert(_raw(item)) for item in cluster.items[plural])


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_the_planner_and_the_scheduler_agree_on_every_node(binaries: Binaries) -> None:
    draw = Random(int(os.environ.get(SEED, "4")))
    worlds = [make_world(number, draw) for number in range(int(os.environ.get(WORLDS, FEW)))]
    cluster = judged(binaries, worlds)
    planner = Planner(cluster)
    assert cluster.errors == {}
    assert set(planner.pending) == set(cluster.verdicts)

    too_bold, too_shy = [], []
    seen: Counter[str] = Counter()
    for key, pod in planner.pending.items():
        for node, found in planner.verdicts(pod):
            accepted = node.name in cluster.verdicts[key]
            own = node.labels["test/world"] == key.partition("-")[0]
            seen["own_yes" if own and accepted else "own_no" if own else "other_worlds"] += 1
            if found is None and not accepted:
                too_bold.append(f"{key} on {node.name}")
            if found is not None and accepted:
                too_shy.append(f"{key} on {node.name}: {found.sentence}")
    log.info("verdicts", **seen)
    assert (too_bold, too_shy) == ([], [])
    assert seen["own_yes"] > 300 and seen["own_no"] > 300
