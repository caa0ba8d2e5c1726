"""Random little worlds as Kubernetes objects: nodes, the pods that are on them, storage, and pods to be judged.

A world has node labels and namespaces of its own, so that many fit into one cluster and their pods still meet each
other's rules. Everything is drawn from one `Random`: the same seed, the same worlds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.scheduler.storage import Shelf, claims_and_volumes

Json = dict[str, Any]

MIG = "nvidia.com/mig-1g.10gb"
SCHEDULER_NAME = "judge"
RUNTIME_CLASS = "heavy"  # with an overhead of its own

NODES = 10
BOUND = 24
PENDING = 26

APPS = ("web", "db", "ml")
TIERS = ("front", "back")
GENERATIONS = ("1", "2", "07", "10", "x", "1.5", "9223372036854775808")
TAINTS = (
    {"key": "dedicated", "value": "ml", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "web", "effect": "NoExecute"},
    {"key": "gpu-only", "effect": "NoSchedule"},
    {"key": "slow", "value": "yes", "effect": "PreferNoSchedule"},
)
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclass
class World:
    """The objects of one world. Pods in `pending` have yet to be judged."""

    number: int
    namespaces: list[Json] = field(default_factory=list)
    nodes: list[Json] = field(default_factory=list)
    bound: list[Json] = field(default_factory=list)
    pending: list[Json] = field(default_factory=list)
    storage: Shelf = field(default_factory=Shelf)

    @property
    def keys(self) -> tuple[str, ...]:
        """Node labels that pods' rules may go by."""
        name = f"w{self.number}.test"
        return (
            f"{name}/zone",
            f"{name}/zone",
            f"{name}/rack",
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        )


def make_world(number: int, draw: Random) -> World:
    """A whole world."""
    world = World(number)
    for letter, team in (("a", "red"), ("b", "blue")):
        labels = {"team": f"w{number}-{team}"}
        world.namespaces.append({"metadata": {"name": f"w{number}-{letter}", "labels": labels}})
    world.nodes = [_node(world, index, draw) for index in range(NODES)]
    world.storage = claims_and_volumes(number, world.keys[0], [one["metadata"]["name"] for one in world.nodes], draw)
    for index in range(BOUND):
        pod = _pod(world, f"bound-{index}", draw, rules=0.08)
        pod["spec"]["nodeName"] = draw.choice(world.nodes)["metadata"]["name"]
        if draw.random() < 0.15:
            pod["spec"]["volumes"] = world.storage.volumes_in_use(pod, draw)
        world.bound.append(pod)
    world.pending = [_pod(world, f"pending-{index}", draw, rules=0.3) for index in range(PENDING)]
    for pod in world.pending:
        if draw.random() < 0.3:
            pod["spec"]["volumes"] = world.storage.volumes_of(pod, draw)
    return world


def _chance(draw: Random, share: float) -> bool:
    return draw.random() < share


def _node(world: World, index: int, draw: Random) -> Json:
    name = f"w{world.number}-n{index}"
    zone, rack, _ = world.keys[0], world.keys[2], None
    labels = {"test/world": f"w{world.number}"}
    for key, value, share in (
        ("kubernetes.io/hostname", name, 0.9),
        (zone, f"z{index % 3}", 0.9),
        (rack, f"r{draw.randrange(5)}", 0.75),
        ("topology.kubernetes.io/zone", f"z{draw.randrange(3)}", 0.6),
        ("topology.kubernetes.io/region", f"r{draw.randrange(2)}", 0.3),
        ("failure-domain.beta.kubernetes.io/zone", f"z{draw.randrange(3)}", 0.15),
        ("disk", draw.choice(("ssd", "hdd", "")), 0.6),
        ("generation", draw.choice(GENERATIONS), 0.7),
    ):
        if _chance(draw, share):
            labels[key] = value
    cordoned = _chance(draw, 0.1)
    taints = [
        *draw.sample(TAINTS, draw.choice((0, 0, 0, 0, 1, 1, 2))),
        *([CORDON] if cordoned and draw.random() < 0.5 else []),
    ]
    room = {
        MIG: "100",
        "cpu": draw.choice(("4", "8", "7910m")),
        "memory": draw.choice(("4Gi", "16Gi", "33000000Ki")),
        "ephemeral-storage": draw.choice(("10Gi", "100Gi")),
        "pods": draw.choice(("110", "110", "110", "110", "110", "4", "3")),
        "hugepages-2Mi": draw.choice(("0", "512Mi")),
        **draw.choice(({}, {"example.com/nic": "1"}, {"example.com/nic": "2"})),
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints, "unschedulable": cordoned},
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "ready"}],
        },
    }


def _pod(world: World, name: str, draw: Random, *, rules: float) -> Json:
    labels: dict[str, str] = {}
    for key, values, share in (
        ("app", APPS, 0.9),
        ("tier", TIERS, 0.5),
        ("pod-template-hash", ("v1", "v2"), 0.4),
    ):
        if _chance(draw, share):
            labels[key] = draw.choice(values)
    spec: Json = {
        "schedulerName": SCHEDULER_NAME,
        "terminationGracePeriodSeconds": 0,
        "containers": [_container(draw, "main", {MIG: "1"})],
    }
    if _chance(draw, 0.2):
        spec["initContainers"] = [_container(draw, f"init-{n}", {}, init=True) for n in range(draw.randint(1, 3))]
    if _chance(draw, 0.1):
        spec["runtimeClassName"] = RUNTIME_CLASS
    if "initContainers" not in spec and _chance(draw, 0.1):  # never less than its containers ask for together
        spec["resources"] = {"requests": {"cpu": "2", "memory": "2Gi"}}
    if _chance(draw, 0.04):
        spec["hostNetwork"] = True
        spec["containers"][0]["ports"] = [{"containerPort": 8000}]
    if _chance(draw, 0.12):
        spec["nodeSelector"] = draw.choice(
            (
                {"disk": "ssd"},
                {"disk": ""},
                {world.keys[0]: "z1"},
                {"generation": "07"},
                {"disk": "ssd", "generation": "2"},
            )
        )
    if _chance(draw, 0.6):
        spec["tolerations"] = [_toleration(draw) for _ in range(draw.randint(1, 3))]
    affinity = _affinity(world, labels, draw, rules)
    if affinity:
        spec["affinity"] = affinity
    if _chance(draw, rules):
        spec["topologySpreadConstraints"] = _spread(world, labels, draw)
    return {
        "metadata": {"name": name, "namespace": draw.choice(world.namespaces)["metadata"]["name"], "labels": labels},
        "spec": spec,
    }


def _container(draw: Random, name: str, requests: Json, *, init: bool = False) -> Json:
    wanted = dict(requests)
    for resource, amounts, share in (
        ("cpu", ("100m", "500m", "1", "1.5"), 0.6),
        ("memory", ("64Mi", "1Gi", "0.5Gi", "2e9"), 0.5),
        ("ephemeral-storage", ("1Gi", "9Gi"), 0.15),
        ("example.com/nic", ("1",), 0.08),
    ):
        if _chance(draw, share):
            wanted[resource] = draw.choice(amounts)
    if _chance(draw, 0.05):
        wanted["hugepages-2Mi"] = "128Mi"
        wanted.setdefault("cpu", "100m")
    limits = {key: value for key, value in wanted.items() if "/" in key or key.startswith("huge")}
    made: Json = {"name": name, "image": "registry.test/app", "resources": {"requests": wanted, "limits": limits}}
    if init and _chance(draw, 0.5):
        made["restartPolicy"] = "Always"
    if _chance(draw, 0.2):
        # One pod must not take one port twice: each container has numbers of its own.
        numbers = (8002 + int(name[-1]),) if init else (8000, 8001)
        made["ports"] = [_port(draw, number) for number in draw.sample(numbers, draw.randint(1, len(numbers)))]
    return made


def _port(draw: Random, number: int) -> Json:
    port: Json = {"containerPort": number, "protocol": draw.choice(("TCP", "TCP", "UDP"))}
    if _chance(draw, 0.8):
        port["hostPort"] = number
        port["hostIP"] = draw.choice(("", "", "0.0.0.0", "127.0.0.1", "10.0.0.1"))
    return port


def _toleration(draw: Random) -> Json:
    found = draw.choice(
        (
            {"key": "dedicated", "value": "ml"},
            {"key": "dedicated", "operator": "Equal", "value": "web"},
            {"key": "dedicated", "operator": "Exists"},
            {"key": "gpu-only", "operator": "Exists"},
            {"key": "gpu-only", "operator": "Equal", "value": ""},
            {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"},
            {"operator": "Exists"},
        )
    )
    if _chance(draw, 0.3):
        return {**found, "effect": draw.choice(("NoSchedule", "NoExecute", "PreferNoSchedule"))}
    return dict(found)


def _affinity(world: World, labels: Json, draw: Random, rules: float) -> Json:
    found: Json = {}
    if _chance(draw, 0.25):
        terms = [_node_term(world, draw) for _ in range(draw.randint(1, 3))]
        found["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    for kind, share in (("podAffinity", rules / 2), ("podAntiAffinity", rules)):
        if _chance(draw, share):
            terms = [_pod_term(world, labels, draw) for _ in range(draw.choice((1, 1, 2)))]
            found[kind] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    return found


def _node_term(world: World, draw: Random) -> Json:
    expressions = [
        draw.choice(
            (
                {"key": "disk", "operator": "In", "values": ["ssd", ""]},
                {"key": "disk", "operator": "NotIn", "values": ["hdd"]},
                {"key": "disk", "operator": "Exists"},
                {"key": "disk", "operator": "DoesNotExist"},
                {"key": "generation", "operator": "Gt", "values": ["1"]},
                {"key": "generation", "operator": "Lt", "values": ["10"]},
                {"key": "generation", "operator": "Gt", "values": ["x"]},
                {"key": "generation", "operator": "Lt", "values": ["9223372036854775807"]},
                {"key": "generation", "operator": "NotIn", "values": ["2", "07"]},
                {"key": world.keys[0], "operator": "In", "values": ["z0", "z2"]},
            )
        )
        for _ in range(draw.choice((0, 1, 1, 2)))
    ]
    names = [node["metadata"]["name"] for node in world.nodes]
    fields = [
        {"key": "metadata.name", "operator": draw.choice(("In", "NotIn")), "values": [draw.choice(names)]}
        for _ in range(draw.choice((0, 0, 0, 1, 2)))
    ]
    return {
        **({"matchExpressions": expressions} if expressions else {}),
        **({"matchFields": fields} if fields else {}),
    }


def selector(draw: Random) -> Json | None:
    """A label selector: of one app mostly, at times of everything (empty) or of nothing (absent)."""
    if _chance(draw, 0.05):
        return None
    if _chance(draw, 0.05):
        return {}
    found: Json = {}
    if _chance(draw, 0.75):
        found["matchLabels"] = {"app": draw.choice(APPS)}
    if not found or _chance(draw, 0.3):
        found["matchExpressions"] = [
            draw.choice(
                (
                    {"key": "tier", "operator": "In", "values": ["front"]},
                    {"key": "tier", "operator": "NotIn", "values": ["back"]},
                    {"key": "tier", "operator": "Exists"},
                    {"key": "tier", "operator": "DoesNotExist"},
                    {"key": "app", "operator": "In", "values": ["web", "ml"]},
                )
            )
        ]
    return found


def _pod_term(world: World, labels: Json, draw: Random) -> Json:
    wanted = selector(draw)
    term: Json = {"topologyKey": draw.choice(world.keys)}
    if wanted is not None:
        term["labelSelector"] = wanted
        if _chance(draw, 0.2):
            term[draw.choice(("matchLabelKeys", "mismatchLabelKeys"))] = ["pod-template-hash"]
    if _chance(draw, 0.25):
        term["namespaces"] = [draw.choice(world.namespaces)["metadata"]["name"]]
    if _chance(draw, 0.25):
        team = draw.choice(world.namespaces)["metadata"]["labels"]["team"]
        term["namespaceSelector"] = draw.choice(({}, {"matchLabels": {"team": team}}))
    return term


def _spread(world: World, labels: Json, draw: Random) -> list[Json]:
    found = []
    for key in draw.sample(sorted(set(world.keys)), draw.choice((1, 1, 2))):
        rule: Json = {
            "maxSkew": draw.choice((1, 1, 2, 3)),
            "topologyKey": key,
            "whenUnsatisfiable": draw.choice(("DoNotSchedule",) * 5 + ("ScheduleAnyway",)),
        }
        wanted = (
            {"matchLabels": {"app": labels["app"]}} if "app" in labels and draw.random() < 0.5 else selector(draw)
        )
        if wanted is not None:
            rule["labelSelector"] = wanted
            if _chance(draw, 0.25):
                rule["matchLabelKeys"] = ["pod-template-hash"]
        if rule["whenUnsatisfiable"] == "DoNotSchedule" and _chance(draw, 0.25):
            rule["minDomains"] = draw.choice((1, 3, 4))
        for policy, values in (
            ("nodeAffinityPolicy", ("Honor", "Ignore")),
            ("nodeTaintsPolicy", ("Honor", "Ignore")),
        ):
            if _chance(draw, 0.4):
                rule[policy] = draw.choice(values)
        found.append(rule)
    return found
