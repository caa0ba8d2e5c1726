"""Kubernetes objects in files -> one snapshot: `kubectl get nodes,pods,mignodes,priorityclasses -A -o json`.

A later file's object takes the place of an earlier one of the same kind, namespace and name, so that pods and nodes
that do not exist yet are one more file. Whatever is wrong is told in a sentence; the rest is still planned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, TypeVar

import msgspec

from cdmo.api.v1alpha1 import MigNode
from cdmo.api.view import view_of
from cdmo.kube.contradictions import checked
from cdmo.kube.documents import Found, field_of, objects_in
from cdmo.kube.hypothetical import (
    DEFAULT_NAMESPACE,
    Cards,
    FilePod,
    Priorities,
    in_namespace,
    node_of_file,
    pod_of_file,
    priority_class,
)
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.quantity import amount
from cdmo.kube.slim_storage import claim_info, class_info, namespace_labels, volume_info
from cdmo.model.cluster import NodeInfo, PodInfo, labelled
from cdmo.model.names import GROUP
from cdmo.model.policy import Policy
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import Host, MigNodeView, Snapshot
from cdmo.model.storage import Storage
from cdmo.text import printable

T = TypeVar("T")
Kind = tuple[str, str]  # API group and kind
Key = tuple[str, str]  # namespace and name
Objects = dict[Key, Found]  # of one kind
Tell = Callable[[str], None]

POD, NODE, MIG_NODE = ("", "Pod"), ("", "Node"), (GROUP, "MigNode")
NAMESPACE, PRIORITY_CLASS = ("", "Namespace"), ("scheduling.k8s.io", "PriorityClass")
CLAIM, VOLUME = ("", "PersistentVolumeClaim"), ("", "PersistentVolume")
STORAGE_CLASS = ("storage.k8s.io", "StorageClass")
_READ = (POD, NODE, MIG_NODE, NAMESPACE, PRIORITY_CLASS, CLAIM, VOLUME, STORAGE_CLASS)
_NAMESPACED = (POD, CLAIM)

_QUANTITIES = frozenset({"requests", "overhead", "allocatable", "capacity"})
_NAME_LABEL = "kubernetes.io/metadata.name"  # set by the API server on every Namespace
_FILE_STEP = 0.001  # seconds by which a pod without creation time of a later file is younger


@dataclass(frozen=True, slots=True)
class Reading:
    """What files say."""

    snapshot: Snapshot
    problems: tuple[str, ...]  # a sentence each, with file, object and field; ascending
    notes: tuple[str, ...]  # what was not looked at, though nothing is wrong with it


def read_snapshot(
    paths: Sequence[str], now: float, *, stdin: BinaryIO, policy: Policy, cards: Sequence[GpuModel]
) -> Reading:
    """Everything the files hold, as one question to the planner. Raises nothing: problems are part of the answer.

    paths: files, `-` for `stdin`. now: unix seconds; files that know when they were written are read as of then, so
    that they give the same plan at any time. cards: what a Node without MigNode may be labelled with.
    """
    problems: dict[str, None] = {}

    def tell(sentence: str) -> None:
        problems[printable(sentence)[:1000]] = None

    objects, ignored = _collect(paths, stdin, tell)
    join = _Join(objects, now, tell)
    snapshot = join.snapshot(policy, Cards(cards))
    return Reading(snapshot, tuple(sorted(problems)), tuple(_notes(ignored, join.claims_unknown(snapshot.pending))))


def _notes(ignored: Mapping[str, int], claims_unknown: int) -> Iterator[str]:
    if ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        yield f"no plan looks at objects of these kinds: {kinds}"
    if claims_unknown:
        yield (
            f"{claims_unknown} waiting pods name PersistentVolumeClaims; the files hold none, so volumes were not "
            "looked at"
        )


def _collect(paths: Sequence[str], stdin: BinaryIO, tell: Tell) -> tuple[dict[Kind, Objects], Counter[str]]:
    objects: dict[Kind, Objects] = {kind: {} for kind in _READ}
    ignored: Counter[str] = Counter()
    for position, path in enumerate(paths):
        for found in objects_in(path, position, stdin, tell):
            kind = (found.group, found.kind)
            if kind not in objects:
                ignored[printable(found.kind)[:80]] += 1
            elif not found.name:
                tell(f"{found.file}: a {found.kind} has no metadata.name; it is left out")
            else:
                if kind in _NAMESPACED and not found.namespace:
                    found = replace(found, namespace=DEFAULT_NAMESPACE, raw=in_namespace(found.raw))
                _put(objects[kind], (found.namespace if kind in _NAMESPACED else "", found.name), found, tell)
    return objects, ignored


def _put(objects: Objects, key: Key, found: Found, tell: Tell) -> None:
    before = objects.get(key)
    if before is not None and before.position == found.position and bytes(before.raw) != bytes(found.raw):
        tell(f"{found.file}: {found} is listed twice with different content; its latest resourceVersion counts")
        found = max(before, found, key=_age)
    objects[key] = found


def _age(found: Found) -> tuple[int, bytes]:
    version = found.version
    return (int(version) if version.isascii() and version.isdigit() and len(version) < 20 else -1, bytes(found.raw))


class _Join:
    """From objects to the snapshot."""

    def __init__(self, objects: Mapping[Kind, Objects], now: float, tell: Tell) -> None:
        self._objects = objects
        self._tell = tell
        self._nodes = self._values(NODE, node_of_file)
        self._mignodes = self._values(MIG_NODE, mig_node)
        self._claims = self._values(CLAIM, claim_info)
        self._storage = Storage(
            {f"{namespace}/{name}": each for (namespace, name), each in self._claims.items()},
            _by_name(self._values(VOLUME, volume_info)),
            _by_name(self._values(STORAGE_CLASS, class_info)),
        )
        self._now = _moment(self._mignodes.values(), now)
        # `now` and not the moment of the files: a pod without a time is younger than all others.
        priorities = Priorities(_by_name(self._values(PRIORITY_CLASS, priority_class)))
        self._pods = self._convert(POD, partial(self._pod, newest=now, priorities=priorities))

    def snapshot(self, policy: Policy, cards: Cards) -> Snapshot:
        """The question to the planner, everything in the order of names."""
        bound = self._bound()
        seen = [self._view(key, node, tuple(bound[node.name]), cards) for key, node in self._nodes.items()]
        for key in self._mignodes.keys() - self._nodes.keys():
            self._say(MIG_NODE, key, "", "there is no Node of this name; it is left out")
        return Snapshot(
            now=self._now,
            nodes=tuple(each for each in seen if isinstance(each, MigNodeView)),
            pending=tuple(self._pending(policy)),
            others=tuple(each for each in seen if isinstance(each, Host)),
            namespaces=self._namespaces(),
        )

    def claims_unknown(self, pods: Iterable[PodInfo]) -> int:
        """How many of the pods name claims although there are none in the files."""
        return 0 if self._claims else sum(bool(each.claims) for each in pods)

    def _pod(self, found: Found, newest: float, priorities: Priorities) -> FilePod:
        pod = pod_of_file(found.raw, newest + found.position * _FILE_STEP, priorities)
        # Without claims in the files nothing is known of them; that they do not exist would be the wrong answer.
        return replace(pod, info=self._storage.with_volumes(pod.info)) if self._claims else pod

    def _namespaces(self) -> dict[str, Mapping[str, str]]:
        """Labels of namespaces; one that is not in the files has the label that every namespace has."""
        made = {namespace: {_NAME_LABEL: namespace} for namespace, _ in self._pods}
        return {**made, **_by_name(self._values(NAMESPACE, namespace_labels))}

    def _bound(self) -> defaultdict[str, list[PodInfo]]:
        bound: defaultdict[str, list[PodInfo]] = defaultdict(list)
        for key, pod in self._pods.items():
            node = pod.info.node_name
            if not node or pod.info.finished:
                continue
            if ("", node) in self._nodes:
                bound[node].append(pod.info)
            else:
                self._say(POD, key, "spec.nodeName", f"there is no Node {node}; the pod is left out")
        return bound

    def _pending(self, policy: Policy) -> Iterator[PodInfo]:
        for key, pod in self._pods.items():
            info = pod.info
            over = info.finished or info.terminating or info.gated
            if pod.waits and not over and info.scheduler_name in policy.scheduler_names:
                if pod.problem:
                    self._say(POD, key, "spec.priorityClassName", pod.problem)
                yield info

    def _view(self, key: Key, node: NodeInfo, pods: tuple[PodInfo, ...], cards: Cards) -> MigNodeView | Host:
        mignode = self._mignodes.get(key)
        if mignode is None and not labelled(node):
            return Host(node, pods)
        if mignode is None:
            made = cards.view(node, pods)
            if isinstance(made, str):
                self._say(NODE, key, "", made)
                return Host(node, pods)
            view = made
        else:
            # No heartbeat can be judged from a file: the agent counts as alive.
            view = checked(view_of(node, mignode, True, pods), partial(self._say, MIG_NODE, key))
        if view.managed and not node.allocatable.get("pods"):
            self._say(NODE, key, "status.allocatable", "it says of no pods that they may run there")
        return view

    def _values(self, kind: Kind, convert: Callable[[bytes | msgspec.Raw], T]) -> dict[Key, T]:
        return self._convert(kind, lambda found: convert(found.raw))

    def _convert(self, kind: Kind, convert: Callable[[Found], T]) -> dict[Key, T]:
        """Every object of a kind that can be read, by its key and in the order of keys."""
        values: dict[Key, T] = {}
        for key, found in sorted(self._objects[kind].items()):
            try:
                values[key] = convert(found)
            except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
                where, said = _complaint(found, error)
                self._say(kind, key, where, f"{said}; it is left out")
        return values

    def _say(self, kind: Kind, key: Key, field: str, sentence: str) -> None:
        found = self._objects[kind][key]
        name = f"{key[0]}/{key[1]}" if key[0] else key[1]
        self._tell(f"{found.file}: {found.kind} {name}{' ' + field if field else ''}: {sentence}")


def _by_name(values: Mapping[Key, T]) -> dict[str, T]:
    return {name: each for (_, name), each in values.items()}


def _moment(mignodes: Iterable[MigNode], now: float) -> float:
    """When the files were written: the latest heartbeat in them, but not later than now, and now without any."""
    beats = (each.status.agent.heartbeat for each in mignodes if each.status.agent is not None)
    return min(now, max((each for each in map(_seconds, beats) if each), default=now))


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _complaint(found: Found, error: Exception) -> tuple[str, str]:
    """The field that could not be read, and why. What is no quantity is looked for: its reader sees no field."""
    if isinstance(error, msgspec.MsgspecError):
        return field_of(error)
    if isinstance(error, UnicodeError):
        return "", "it holds text that is not UTF-8"
    try:
        where = next(_bad_quantities(msgspec.json.decode(found.raw), ""), "")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        where = ""
    return where, str(error)[:200]


def _bad_quantities(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _bad_quantities(each, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, each in value.items():
            below = f"{path}.{key}".lstrip(".")
            if key in _QUANTITIES and isinstance(each, dict):
                yield from (f"{below}[{name}]" for name, text in each.items() if not _is_quantity(name, text))
            else:
                yield from _bad_quantities(each, below)


def _is_quantity(name: str, text: Any) -> bool:
    try:
        amount(name, str(text))
    except ValueError:
        return False
    return True
