"""Claims, volumes, classes and namespaces, from the JSON of the API to what planning knows."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from cdmo.kube.slim_storage import claim_info, class_info, namespace_labels, volume_info
from cdmo.model.selectors import Requirement, SelectorTerm
from cdmo.model.storage import ClaimInfo, ClassInfo, VolumeInfo


def raw(name: str, meta: dict[str, Any] | None = None, **rest: Any) -> bytes:
    """An object with this name, more metadata and the rest."""
    return json.dumps({"metadata": {"name": name, **(meta or {})}, **rest}).encode()


def test_a_claim_is_read_whole() -> None:
    owners = [{"uid": "other"}, {"uid": "uid-pod", "controller": True}]
    notes = {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "n1"}
    spec = {
        "storageClassName": "fast",
        "volumeName": "v",
        "accessModes": ["ReadWriteOncePod"],
        "volumeMode": "Block",
        "volumeAttributesClassName": "gold",
        "resources": {"requests": {"storage": "1Gi"}},
        "selector": {"matchLabels": {"tier": "fast"}},
    }
    meta = {"namespace": "ml", "uid": "u", "annotations": notes, "ownerReferences": owners}
    found = claim_info(raw("data", {**meta, "deletionTimestamp": "x"}, spec=spec, status={"phase": "Lost"}))
    assert found == ClaimInfo(
        namespace="ml",
        name="data",
        uid="u",
        owner="uid-pod",
        class_name="fast",
        volume="v",
        bound=True,
        lost=True,
        terminating=True,
        selected_node="n1",
        access_modes=("ReadWriteOncePod",),
        block=True,
        size=2**30,
        attributes_class="gold",
        selector=(Requirement("tier", "In", ("fast",)),),
    )


def test_a_claim_with_nulls_is_an_open_claim_for_any_volume() -> None:
    found = claim_info(raw("data", {"namespace": "ml", "annotations": None}, spec=None, status=None))
    assert found == ClaimInfo("ml", "data")
    assert found.selector == ()


def test_a_claim_is_bound_once_both_sides_know() -> None:
    notes = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    assert not claim_info(raw("data", spec={"volumeName": "v"})).bound
    assert not claim_info(raw("data", notes)).bound


def test_the_old_annotation_names_the_class_before_the_field() -> None:
    notes = {"annotations": {"volume.beta.kubernetes.io/storage-class": "old"}}
    assert claim_info(raw("data", notes, spec={"storageClassName": "new"})).class_name == "old"
    assert volume_info(raw("v", notes, spec={"storageClassName": "new"})).class_name == "old"


def test_a_volume_is_read_whole() -> None:
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    spec = {
        "storageClassName": "fast",
        "claimRef": {"namespace": "ml", "name": "data"},
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "2Gi"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [zone]}},
    }
    found = volume_info(raw("v", {"labels": {"tier": "fast"}}, spec=spec, status={"phase": "Available"}))
    assert found == VolumeInfo(
        "v",
        labels={"tier": "fast"},
        class_name="fast",
        claim=("ml", "data", ""),
        available=True,
        access_modes=("ReadWriteOnce",),
        size=2**31,
        terms=(SelectorTerm((Requirement("zone", "In", ("a",)),)),),
    )
    assert volume_info(raw("v")) == VolumeInfo("v")


def test_a_class_says_when_and_where_volumes_are_made() -> None:
    allowed = [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]
    found = class_info(
        raw("c", provisioner="csi.example.com", volumeBindingMode="WaitForFirstConsumer", allowedTopologies=allowed)
    )
    terms = (SelectorTerm((Requirement("zone", "In", ("a", "b")),)),)
    assert found == ClassInfo("c", "csi.example.com", delayed=True, terms=terms)
    assert class_info(raw("c", provisioner="p", volumeBindingMode="Immediate")) == ClassInfo("c", "p")
    assert class_info(raw("c", allowedTopologies=[])) == ClassInfo("c")


def test_a_namespace_is_its_labels() -> None:
    assert namespace_labels(raw("ml", {"labels": {"team": "x"}})) == {"team": "x"}
    assert namespace_labels(raw("ml")) == {}


@pytest.mark.parametrize("size", ["lots", "", "1GiB"])
def test_a_size_that_is_no_quantity_is_refused(size: str) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError)):
        claim_info(raw("data", spec={"resources": {"requests": {"storage": size}}}))
