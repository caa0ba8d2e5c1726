"""JSON of PersistentVolumeClaims, PersistentVolumes, StorageClasses and Namespaces -> values of the model."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from cdmo.api.decoding import decoder
from cdmo.kube.lenient import (
    Amounts,
    Expression,
    Labels,
    Lenient,
    Metadata,
    NodeSelector,
    Selector,
    amounts,
    label_map,
    label_selector,
    requirements,
    terms,
)
from cdmo.model.selectors import SelectorTerm
from cdmo.model.storage import ClaimInfo, ClassInfo, VolumeInfo

_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"  # goes before the field
_BOUND = "pv.kubernetes.io/bind-completed"
_NODE = "volume.kubernetes.io/selected-node"
_SIZE = "storage"


class _Owner(Lenient, frozen=True):
    uid: str | None = None
    controller: bool | None = None


class _Metadata(Lenient, frozen=True):
    name: str
    namespace: str | None = None
    uid: str | None = None
    labels: Labels | None = None
    annotations: Labels | None = None
    deletion_timestamp: str | None = None
    owner_references: list[_Owner] | None = None


class _Resources(Lenient, frozen=True):
    requests: Amounts | None = None


class _Phase(Lenient, frozen=True):
    phase: str | None = None


class _ClaimSpec(Lenient, frozen=True):
    storage_class_name: str | None = None
    volume_name: str | None = None
    access_modes: list[str] | None = None
    volume_mode: str | None = None
    volume_attributes_class_name: str | None = None
    resources: _Resources | None = None
    selector: Selector | None = None


class _Claim(Lenient, frozen=True):
    metadata: _Metadata
    spec: _ClaimSpec | None = None
    status: _Phase | None = None


class _ClaimRef(Lenient, frozen=True):
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None


class _VolumeNodeAffinity(Lenient, frozen=True):
    required: NodeSelector | None = None


class _VolumeSpec(Lenient, frozen=True):
    storage_class_name: str | None = None
    claim_ref: _ClaimRef | None = None
    access_modes: list[str] | None = None
    volume_mode: str | None = None
    volume_attributes_class_name: str | None = None
    capacity: Amounts | None = None
    node_affinity: _VolumeNodeAffinity | None = None


class _Volume(Lenient, frozen=True):
    metadata: _Metadata
    spec: _VolumeSpec | None = None
    status: _Phase | None = None


class _TopologyTerm(Lenient, frozen=True):
    match_label_expressions: list[_TopologyExpression] | None = None


class _TopologyExpression(Lenient, frozen=True):
    key: str
    values: list[str] | None = None


class _Class(Lenient, frozen=True):
    metadata: _Metadata
    provisioner: str | None = None
    volume_binding_mode: str | None = None
    allowed_topologies: list[_TopologyTerm] | None = None


class _Namespace(Lenient, frozen=True):
    metadata: Metadata


_decode_claim = decoder(_Claim)
_decode_volume = decoder(_Volume)
_decode_class = decoder(_Class)
_decode_namespace = decoder(_Namespace)


def claim_info(raw: bytes | msgspec.Raw) -> ClaimInfo:
    """A PersistentVolumeClaim. Raises msgspec.ValidationError or ValueError."""
    claim = _decode_claim(raw)
    meta, spec, status = claim.metadata, claim.spec or _ClaimSpec(), claim.status or _Phase()
    notes = meta.annotations or {}
    volume = spec.volume_name or ""
    return ClaimInfo(
        namespace=meta.namespace or "",
        name=meta.name,
        uid=meta.uid or "",
        owner=next((one.uid or "" for one in meta.owner_references or () if one.controller), ""),
        class_name=_class_name(notes, spec.storage_class_name),
        volume=volume,
        bound=bool(volume) and _BOUND in notes,
        lost=status.phase == "Lost",
        terminating=meta.deletion_timestamp is not None,
        selected_node=notes.get(_NODE) or "",
        access_modes=tuple(spec.access_modes or ()),
        block=spec.volume_mode == "Block",
        size=amounts(spec.resources.requests if spec.resources else None).get(_SIZE, 0),
        attributes_class=spec.volume_attributes_class_name or "",
        selector=() if spec.selector is None else label_selector(spec.selector),
    )


def volume_info(raw: bytes | msgspec.Raw) -> VolumeInfo:
    """A PersistentVolume. Raises msgspec.ValidationError or ValueError."""
    volume = _decode_volume(raw)
    meta, spec, status = volume.metadata, volume.spec or _VolumeSpec(), volume.status or _Phase()
    claim = spec.claim_ref
    return VolumeInfo(
        name=meta.name,
        labels=label_map(meta.labels),
        class_name=_class_name(meta.annotations or {}, spec.storage_class_name),
        claim=None if claim is None else (claim.namespace or "", claim.name or "", claim.uid or ""),
        available=status.phase == "Available",
        terminating=meta.deletion_timestamp is not None,
        access_modes=tuple(spec.access_modes or ()),
        block=spec.volume_mode == "Block",
        size=amounts(spec.capacity).get(_SIZE, 0),
        attributes_class=spec.volume_attributes_class_name or "",
        terms=terms(spec.node_affinity.required if spec.node_affinity else None),
    )


def class_info(raw: bytes | msgspec.Raw) -> ClassInfo:
    """A StorageClass. Raises msgspec.ValidationError."""
    found = _decode_class(raw)
    return ClassInfo(
        name=found.metadata.name,
        provisioner=found.provisioner or "",
        delayed=found.volume_binding_mode == "WaitForFirstConsumer",
        terms=tuple(map(_topology, found.allowed_topologies)) if found.allowed_topologies else None,
    )


def namespace_labels(raw: bytes | msgspec.Raw) -> Mapping[str, str]:
    """Labels of a Namespace. Raises msgspec.ValidationError."""
    return label_map(_decode_namespace(raw).metadata.labels)


def _topology(term: _TopologyTerm) -> SelectorTerm:
    expressions = term.match_label_expressions or ()
    return SelectorTerm(requirements(Expression(one.key, "In", one.values) for one in expressions))


def _class_name(annotations: Labels, name: str | None) -> str:
    return sys.intern(annotations.get(_OLD_CLASS, name) or "")
