"""Files for the readers of files: a cluster of one GPU node, and whatever a test puts beside it or changes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec

from cdmo.kube.objects import Reading, read_snapshot
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.policy import Policy
from cdmo.simulation.cards import CARDS
from tests.builders import NOW, Card, h100, node
from tests.controller.bench import mignode_of
from tests.kube.objects import Json, node_json, pod_json

RECORDED = Path(__file__).parents[1] / "data" / "kubectl"
ROOM = {"cpu": "64", "memory": "512Gi", "pods": "110"}
LABELS = {PARTITIONING_LABEL: PARTITIONING_VALUE}

Content = bytes | str | Json | list[Json]


def gpu_node(name: str = "gpu-1", **labels: str) -> Json:
    """A Node that was given to CDMO."""
    made = node_json(name, allocatable=ROOM, capacity=ROOM)
    made["metadata"]["labels"] |= {**LABELS, **labels}
    return made


def mignode(name: str = "gpu-1", *gpus: Card) -> Json:
    """The MigNode of a node with these GPUs, one empty H100 unless told otherwise."""
    made = mignode_of(node(name, list(gpus) or [h100()]))
    found: Json = msgspec.json.decode(msgspec.json.encode(made))
    return {**found, "apiVersion": "cdmo.clear.ml/v1alpha1", "kind": "MigNode"}


def asking(profile: str = "3g.40gb", count: int | str = 1) -> list[Json]:
    """Containers of a pod that asks for slices."""
    amount = {f"nvidia.com/mig-{profile}": count}
    return [{"name": "main", "image": "registry.example/app", "resources": {"requests": amount, "limits": amount}}]


def waiting(name: str, profile: str = "3g.40gb", *, created: str = "2026-09-01T00:00:00Z", **spec: Any) -> Json:
    """A pod that the scheduler found no place for."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    made = pod_json(name, status={"conditions": [condition]}, containers=asking(profile), **spec)
    made["metadata"]["creationTimestamp"] = created
    return made


def sketched(name: str, profile: str = "3g.40gb", **spec: Any) -> Json:
    """A pod as somebody writes it by hand: no uid, no time, no status."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"containers": asking(profile), **spec},
    }


def priority_class(name: str, value: int, *, default: bool = False) -> Json:
    """A PriorityClass."""
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    return {**kind, "metadata": {"name": name}, "value": value, "globalDefault": default}


def cluster(*more: Json) -> list[Json]:
    """One node with one empty H100, and more."""
    return [gpu_node(), mignode(), *more]


def listed(items: list[Json], kind: str = "List") -> Json:
    """Objects in a list, as kubectl prints several."""
    return {"apiVersion": "v1", "items": items, "kind": kind, "metadata": {"resourceVersion": ""}}


def written(folder: Path, *contents: Content) -> list[str]:
    """A file for each content, which a list of objects is as a List; their paths."""
    paths = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.txt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            whole = listed(content) if isinstance(content, list) else content
            path.write_text(whole if isinstance(whole, str) else json.dumps(whole))
        paths.append(str(path))
    return paths


def read_paths(*paths: str | Path, stdin: bytes = b"", now: float = NOW) -> Reading:
    """Read files, as of the builders' time."""
    return read_snapshot([*map(str, paths)], now, stdin=io.BytesIO(stdin), policy=Policy(), cards=CARDS)


def read(folder: Path, *contents: Content) -> Reading:
    """Read a file for each content; the problems without the folder before their file's name."""
    reading = read_paths(*written(folder, *contents))
    bare = tuple(each.removeprefix(f"{folder}/") for each in reading.problems)
    return Reading(reading.snapshot, bare, reading.notes)
