"""What agents and the controller do, and what somebody with their token might try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.access.caller import (
    APPLY,
    EVENTS,
    JSON_PATCH,
    MERGE,
    MIGNODES,
    NODES,
    PROBE_BINDING,
    STRATEGIC,
    Act,
    Caller,
    Json,
)
from tests.access.scene import MIG, OTHERS_TAINT, OWN_TAINT, Scene

RBAC = "cannot "  # in every refusal by RBAC: `User "…" cannot patch resource …`

In = Callable[[Scene], Act]  # an act in a scene


@dataclass(frozen=True, slots=True)
class Attack:
    """What is tried, who or what must refuse it, and the nearest thing to it that must work."""

    act: In
    refused: str  # a part of the refusal
    neighbour: In

    def check(self, scene: Scene, attacker: Caller, rightful: Caller) -> None:
        """It is refused for that reason and leaves no trace, while the neighbour works."""
        before = scene.everything()
        answer = attacker.do(self.act(scene))
        assert (answer.status, self.refused in answer.message) == (403, True), f"{answer.status}: {answer.message}"
        assert scene.everything() == before
        neighbour = self.neighbour(scene)
        rightful.do(neighbour).require()
        assert neighbour.dry_run or neighbour.method == "POST" or scene.everything() != before


def on_node(change: Json, form: str = MERGE) -> In:
    """A patch of the agent's own Node."""
    return lambda scene: Act("PATCH", f"{NODES}/{scene.own}", _as_apply(change, scene.own, form), form)


def on_node_status(change: Json, form: str = MERGE) -> In:
    """A patch of the status of the agent's own Node."""
    return lambda scene: Act("PATCH", f"{NODES}/{scene.own}/status", _as_apply(change, scene.own, form), form)


def on_other(act: In) -> In:
    """The same on the other node."""

    def elsewhere(scene: Scene) -> Act:
        done = act(scene)
        return Act(done.method, done.path.replace(scene.own, scene.other), done.body, done.form, done.dry_run)

    return elsewhere


def metadata(**fields: Any) -> Json:
    """A change of an object's metadata."""
    return {"metadata": fields}


def labels(**values: str | None) -> Json:
    """A change of labels; `cdmo_x` stands for cdmo.clear.ml/x."""
    return metadata(labels={_label(name): value for name, value in values.items()})


def taints(*values: Json) -> Json:
    """The whole list of taints, as the API wants it."""
    return {"spec": {"taints": list(values)}}


def amounts(**values: str | None) -> Json:
    """A change of capacity and allocatable."""
    return {"status": {"capacity": values, "allocatable": values}}


def own_label(scene: Scene) -> Act:
    """The fence goes up."""
    return on_node(labels(cdmo_fenced="true"))(scene)


def own_taint(scene: Scene) -> Act:
    """The taint goes up, beside what others put there."""
    return on_node(taints(OTHERS_TAINT, OWN_TAINT))(scene)


def own_capacity(scene: Scene) -> Act:
    """New slices are published."""
    return on_node_status(amounts(**{MIG: "3", "nvidia.com/mig-2g.20gb": "1"}))(scene)


def own_status(scene: Scene) -> Act:
    """A report, as the agent writes it."""
    change = [{"op": "add", "path": "/status", "value": {"revision": 7}}]
    return Act("PATCH", f"{MIGNODES}/{scene.own}/status", change, JSON_PATCH)


def binding(target: str, *, dry_run: bool = True) -> Act:
    """The fence's probe."""
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "cdmo-fence-probe", "namespace": "default"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": target},
    }
    return Act("POST", PROBE_BINDING, body, dry_run=dry_run)


def event(scene: Scene, **changes: Any) -> Act:
    """An Event of the agent's about its Node."""
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "access-", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "type": "Normal",
        "reason": "Repartitioned",
        "action": "Repartitioned",
        "note": "a test",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": scene.own},
        "reportingController": "cdmo-agent",
        "reportingInstance": scene.own,
    }
    return Act("POST", EVENTS, {**body, **changes})


# The forms of one and the same patch: a list of merge, strategic merge, JSON patch and server-side apply.
PATCHES: dict[str, tuple[str, Any]] = {
    "merge": (MERGE, metadata(annotations={"a": "b"})),
    "strategic merge": (STRATEGIC, metadata(annotations={"a": "b"})),
    "JSON patch": (JSON_PATCH, [{"op": "add", "path": "/metadata/annotations/a", "value": "b"}]),
    "apply": (APPLY, metadata(annotations={"a": "b"})),
}


def _label(name: str) -> str:
    return name.replace("cdmo_", "cdmo.clear.ml/").replace("_", "-")


def _as_apply(change: Any, name: str, form: str) -> Any:
    """Server-side apply wants the object's kind and name as well."""
    if form != APPLY:
        return change
    return {
        **change,
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {**change.get("metadata", {}), "name": name},
    }
