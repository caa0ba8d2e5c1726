"""The real kube-scheduler as a judge: for each pod, the nodes that its own filters let through.

The scheduler asks an extender about the nodes that passed its filters. The extender here notes them and refuses them
all: nothing is ever bound, so that one attempt for each pod gives the verdict on every node, and no verdict changes
the next. The scheduler is started when everything else is in place, so that it never judges half a cluster.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cdmo_harness.binaries import Binaries, Component
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.control_plane_arguments import LOOPBACK, Files, environment
from cdmo_harness.processes import ManagedProcess

from tests.scheduler.worlds import RUNTIME_CLASS, SCHEDULER_NAME, Json, World

PEOPLE = 6  # requests at a time
VERDICT_LIMIT = 120.0  # seconds for all verdicts

# Nothing may change by itself while pods are judged: no controller binds claims, evicts pods or taints nodes.
EXTRA: dict[Component, tuple[str, ...]] = {
    Component.CONTROLLER_MANAGER: ("--controllers=serviceaccount-controller",),
    Component.API_SERVER: ("--disable-admission-plugins=TaintNodesByCondition,ServiceAccount",),
}


@dataclass
class Cluster:
    """Everything in the cluster, as the API server tells it, and the scheduler's verdicts by pod "namespace/name"."""

    items: dict[str, list[Json]] = field(default_factory=dict)  # by plural
    verdicts: dict[str, frozenset[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)  # pods for which the scheduler failed instead


def judged(binaries: Binaries, worlds: Iterable[World]) -> Cluster:
    """Make the worlds in a cluster of their own and have their pending pods judged."""
    with ControlPlane(binaries, extra_arguments=EXTRA) as plane:
        with ThreadPoolExecutor(PEOPLE) as people:
            pods = _Maker(plane, people).make(list(worlds))
        with _extender() as (address, verdicts), _scheduler(binaries, plane, address):
            return _collect(plane, pods, verdicts)


class _Maker:
    def __init__(self, plane: ControlPlane, people: ThreadPoolExecutor) -> None:
        self._api = plane.api
        self._people = people

    def make(self, worlds: list[World]) -> set[str]:
        """Create all objects; returns the pods to be judged."""
        self._api.create("/apis/node.k8s.io/v1/runtimeclasses", _runtime_class())
        self._all(self._namespace, (one for world in worlds for one in world.namespaces))
        self._all(self._node, (one for world in worlds for one in world.nodes))
        self._all(self._class, (one for world in worlds for one in world.storage.classes))
        self._all(self._volume, (one for world in worlds for one in world.storage.volumes))
        claims = (one for world in worlds for claims in world.storage.claims.values() for one in claims)
        self._all(self._claim, claims)
        self._all(self._bound, (one for world in worlds for one in world.bound))
        pending = [one for world in worlds for one in world.pending]
        uids = dict(zip(map(_key, pending), self._all(self._pod, pending), strict=True))
        owned = [one for world in worlds for one in world.storage.own_claims]
        self._all(lambda pair: self._own_claim(uids[_key(pair[0])], *pair), owned)
        return set(uids)

    def _all(self, make: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return list(self._people.map(make, items))

    def _namespace(self, item: Json) -> None:
        self._api.create("/api/v1/namespaces", item)

    def _node(self, item: Json) -> None:
        self._api.create("/api/v1/nodes", item)

    def _class(self, item: Json) -> None:
        self._api.create("/apis/storage.k8s.io/v1/storageclasses", item)

    def _volume(self, item: Json) -> None:
        state = item.pop("test/state", "")
        self._api.create("/api/v1/persistentvolumes", item)
        if state:
            self._api.patch(
                f"/api/v1/persistentvolumes/{item['metadata']['name']}/status", {"status": {"phase": state}}
            )

    def _claim(self, item: Json) -> None:
        state = item.pop("test/state", "")
        path = f"/api/v1/namespaces/{item['metadata']['namespace']}/persistentvolumeclaims"
        self._api.create(path, item)
        if state == "lost":
            self._api.patch(f"{path}/{item['metadata']['name']}/status", {"status": {"phase": "Lost"}})
        if state == "going":  # the finalizer that every claim gets keeps it
            self._api.delete(f"{path}/{item['metadata']['name']}")

    def _pod(self, item: Json) -> str:
        made = self._api.create(f"/api/v1/namespaces/{item['metadata']['namespace']}/pods", item)
        return str(made["metadata"]["uid"])

    def _bound(self, item: Json) -> None:
        self._pod(item)
        path = f"/api/v1/namespaces/{item['metadata']['namespace']}/pods/{item['metadata']['name']}"
        number = int(item["metadata"]["name"].rpartition("-")[2])
        if number % 8 == 0:
            self._api.patch(f"{path}/status", {"status": {"phase": ("Succeeded", "Failed")[number // 8 % 2]}})
        if number % 8 == 1:
            self._api.patch(path, {"metadata": {"finalizers": ["test/hold"]}})
            self._api.delete(path)

    def _own_claim(self, uid: str, pod: Json, claim: Json) -> None:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": uid, "controller": True}
        claim["metadata"]["ownerReferences"] = [owner]
        self._claim(claim)


def _runtime_class() -> Json:
    overhead = {"podFixed": {"cpu": "250m", "memory": "64Mi"}}
    return {"metadata": {"name": RUNTIME_CLASS}, "handler": "heavy", "overhead": overhead}


def _key(item: Json) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


@contextmanager
def _extender() -> Iterator[tuple[str, dict[str, frozenset[str]]]]:
    """An extender that lets no node through and notes which it was asked about."""
    verdicts: dict[str, frozenset[str]] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            verdicts[_key(asked["Pod"])] = frozenset(asked["NodeNames"])
            body = json.dumps({"NodeNames": [], "FailedNodes": {}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """The scheduler is killed in the end, with its connection open."""

    server = Server((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="extender")
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", verdicts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _scheduler(binaries: Binaries, plane: ControlPlane, extender: str) -> Iterator[None]:
    """A second scheduler with its default filters, for pods that name it."""
    files = Files(plane.directory)
    settings = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(files.kubeconfig("kube-scheduler")), "qps": 1000, "burst": 2000},
        "leaderElection": {"leaderElect": False},
        "percentageOfNodesToScore": 100,  # every node is judged
        "profiles": [
            # Nothing may be evicted on account of a verdict.
            {
                "schedulerName": SCHEDULER_NAME,
                "plugins": {"multiPoint": {"disabled": [{"name": "DefaultPreemption"}]}},
            }
        ],
        "extenders": [
            {"urlPrefix": extender, "filterVerb": "filter", "nodeCacheCapable": True, "httpTimeout": "30s"}
        ],
    }
    config = files.run / "judge.json"
    config.write_text(json.dumps(settings))
    command = [str(binaries.path(Component.SCHEDULER)), f"--config={config}", "--secure-port=0"]
    process = ManagedProcess("judge", command, folder=files.run, environment=environment(files))
    try:
        yield
    finally:
        process.stop(grace=0)


def _collect(plane: ControlPlane, pods: set[str], verdicts: dict[str, frozenset[str]]) -> Cluster:
    found = Cluster()
    limit = time.monotonic() + VERDICT_LIMIT
    while True:
        items = plane.api.get("/api/v1/pods?fieldSelector=spec.nodeName%3D")["items"]
        reasons = {_key(one): _reason(one) for one in items if _key(one) in pods}
        if all(reasons.values()):
            break
        if time.monotonic() > limit:
            missing = [key for key, reason in reasons.items() if not reason]
            raise AssertionError(f"{len(missing)} pods were not judged within {VERDICT_LIMIT:g} s: {missing[:5]}")
        threading.Event().wait(0.5)
    for plural, path in (
        ("pods", "/api/v1/pods"),
        ("namespaces", "/api/v1/namespaces"),
        ("nodes", "/api/v1/nodes"),
        ("persistentvolumes", "/api/v1/persistentvolumes"),
        ("persistentvolumeclaims", "/api/v1/persistentvolumeclaims"),
        ("storageclasses", "/apis/storage.k8s.io/v1/storageclasses"),
    ):
        found.items[plural] = plane.api.get(path)["items"]
    found.verdicts = {key: verdicts.get(key, frozenset()) for key in pods}
    found.errors = {key: reason for key, reason in reasons.items() if reason != "Unschedulable"}
    return found


def _reason(pod: Json) -> str:
    """The scheduler's last word on a pod: empty before it has spoken."""
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = str(condition["reason"])
            return reason if reason == "Unschedulable" else f"{reason}: {condition['message']}"
    return ""
