"""Random claims, volumes and classes of a world, in every state that the scheduler tells apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

Json = dict[str, Any]

# Claims with which a pod can run nowhere.
_NOWHERE = ("missing", "immediate", "classless", "unknown-class", "half-bound", "going", "lost")
_BOUND_NOTE = {"pv.kubernetes.io/bind-completed": "yes"}


@dataclass
class Shelf:
    """Storage of one world. `own_claims` are made once their pods have a uid: (pod, claim)."""

    classes: list[Json] = field(default_factory=list)
    volumes: list[Json] = field(default_factory=list)
    claims: dict[str, list[Json]] = field(default_factory=dict)  # by namespace
    own_claims: list[tuple[Json, Json]] = field(default_factory=list)

    def volumes_of(self, pod: Json, draw: Random) -> list[Json]:
        """One or two volumes for a pod of this world."""
        meta = pod["metadata"]
        names = [claim["metadata"]["name"] for claim in self.claims[meta["namespace"]]]
        found: list[Json] = []
        for index in range(draw.choice((1, 1, 2))):
            name = f"data-{index}"
            if draw.random() < 0.15:
                found.append(
                    {"name": name, "ephemeral": {"volumeClaimTemplate": {"spec": _spec("1Gi", self._class(draw))}}}
                )
                claim = self._claim(f"{meta['name']}-{name}", meta["namespace"], "1Gi", self._class(draw))
                self.own_claims.append((pod, claim))
            else:
                bad = draw.random() < 0.15
                claim_name = draw.choice([one for one in (*names, "missing") if (one in _NOWHERE) is bad])
                found.append({"name": name, "persistentVolumeClaim": {"claimName": claim_name}})
        return found

    def volumes_in_use(self, pod: Json, draw: Random) -> list[Json]:
        """A volume of a pod that is on a node already."""
        names = [one["metadata"]["name"] for one in self.claims[pod["metadata"]["namespace"]]]
        name = draw.choice([one for one in names if one.startswith("bound-")])
        return [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]

    def _class(self, draw: Random) -> str:
        return str(draw.choice(self.classes)["metadata"]["name"])

    @staticmethod
    def _claim(name: str, namespace: str, size: str, class_name: str | None, **spec: Any) -> Json:
        return {"metadata": {"name": name, "namespace": namespace}, "spec": _spec(size, class_name, **spec)}


def _spec(size: str, class_name: str | None, **spec: Any) -> Json:
    named = {} if class_name is None else {"storageClassName": class_name}
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **named, **spec}


def claims_and_volumes(number: int, zone: str, nodes: list[str], draw: Random) -> Shelf:
    """Storage of world `number`; `zone` is its label for zones."""
    shelf = Shelf()
    allowed = [{"matchLabelExpressions": [{"key": zone, "values": ["z0", "z1"]}]}]
    shelf.classes = [
        _class(f"w{number}-delayed", "csi.test", "WaitForFirstConsumer"),
        _class(f"w{number}-zonal", "csi.test", "WaitForFirstConsumer", allowedTopologies=allowed),
        _class(f"w{number}-local", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
        _class(f"w{number}-immediate", "csi.test", "Immediate"),
    ]
    for index in range(6):
        shelf.volumes.append(_free_volume(number, index, zone, nodes, draw))
    for letter in "ab":
        _fill(shelf, number, f"w{number}-{letter}", zone, nodes, draw)
    return shelf


def _fill(shelf: Shelf, number: int, namespace: str, zone: str, nodes: list[str], draw: Random) -> None:
    claims = shelf.claims.setdefault(namespace, [])
    make = shelf._claim
    for name, kind in (("delayed", "delayed"), ("zonal", "zonal"), ("local", "local"), ("immediate", "immediate")):
        claims.append(make(name, namespace, draw.choice(("1Gi", "5Gi")), f"w{number}-{kind}"))
    claims.append(make("local-large", namespace, "50Gi", f"w{number}-local"))
    claims.append(make("local-2", namespace, "1Gi", f"w{number}-local", selector={"matchLabels": {"tier": "fast"}}))
    claims.append(make("classless", namespace, "1Gi", ""))
    claims.append(make("unknown-class", namespace, "1Gi", "nowhere"))
    chosen = make("chosen", namespace, "1Gi", f"w{number}-zonal")
    chosen["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": draw.choice(nodes)}
    claims.append(chosen)
    claims.append(make("half-bound", namespace, "1Gi", f"w{number}-delayed", volumeName=f"w{number}-free-0"))
    for state in ("going", "lost"):
        claims.append({**make(state, namespace, "1Gi", f"w{number}-delayed"), "test/state": state})
    for index in range(5):
        name = f"bound-{index}"
        mode = "ReadWriteOncePod" if index >= 3 else "ReadWriteOnce"
        claim = make(
            name, namespace, "1Gi", f"w{number}-immediate", volumeName=f"{namespace}-{name}", accessModes=[mode]
        )
        claim["metadata"]["annotations"] = _BOUND_NOTE
        claims.append(claim)
        if index == 2 and draw.random() < 0.3:
            continue  # bound to a volume that is not there
        volume = _volume(f"{namespace}-{name}", f"w{number}-immediate", "1Gi", _node_affinity(zone, nodes, draw))
        volume["spec"]["claimRef"] = {"namespace": namespace, "name": name}
        volume["spec"]["accessModes"] = [mode]
        if draw.random() < 0.4:
            key = draw.choice(("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"))
            volume["metadata"]["labels"] = {key: draw.choice(("z0", "z1", "z0__z2"))}
        shelf.volumes.append(volume)


def _free_volume(number: int, index: int, zone: str, nodes: list[str], draw: Random) -> Json:
    kind = draw.choice(("local", "local", "delayed", "zonal"))
    volume = _volume(
        f"w{number}-free-{index}", f"w{number}-{kind}", f"{2 + index}Gi", _node_affinity(zone, nodes, draw)
    )
    volume["test/state"] = "Available"
    if draw.random() < 0.5:
        volume["metadata"]["labels"] = {"tier": "fast"}
    if draw.random() < 0.2:
        volume["spec"]["accessModes"] = ["ReadOnlyMany"]
    if draw.random() < 0.2:
        volume["spec"]["claimRef"] = {"namespace": f"w{number}-a", "name": "local"}
    return volume


def _node_affinity(zone: str, nodes: list[str], draw: Random) -> Json | None:
    terms = draw.choice(
        (
            None,
            [{"matchExpressions": [{"key": zone, "operator": "In", "values": ["z0"]}]}],
            [
                {
                    "matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": draw.sample(nodes, 2)}
                    ]
                }
            ],
            [
                {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
                {"matchExpressions": [{"key": zone, "operator": "NotIn", "values": ["z2"]}]},
            ],
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [draw.choice(nodes)]}]}],
        )
    )
    return None if terms is None else {"required": {"nodeSelectorTerms": terms}}


def _volume(name: str, class_name: str, size: str, affinity: Json | None) -> Json:
    spec: Json = {
        "storageClassName": class_name,
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "csi.test", "volumeHandle": name},
    }
    if affinity is not None:
        spec["nodeAffinity"] = affinity
    return {"metadata": {"name": name}, "spec": spec}


def _class(name: str, provisioner: str, mode: str, **more: Any) -> Json:
    return {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}
