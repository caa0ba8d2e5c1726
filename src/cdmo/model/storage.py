"""PersistentVolumeClaims of a pod, joined with volumes and classes: which nodes can serve them.

As the scheduler's plugins VolumeBinding, VolumeZone and VolumeRestrictions judge (Kubernetes 1.37). Not judged, as
they take objects that are not read here: how many volumes of a CSI driver a node can hold (CSINode), and how much
capacity is left for volumes made on demand (CSIStorageCapacity).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

from cdmo.model.cluster import PodInfo, VolumeChoice, VolumeNeed
from cdmo.model.selectors import NAME_FIELD, LabelSelector, Requirement, SelectorTerm, selects

NO_PROVISIONER = "kubernetes.io/no-provisioner"  # a class whose volumes an administrator makes by hand
ONE_POD = "ReadWriteOncePod"  # an access mode

_ZONE, _REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
_OLD_ZONE, _OLD_REGION = "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"
_NEW_NAME = {_OLD_ZONE: _ZONE, _OLD_REGION: _REGION}
_PLACES = (_OLD_ZONE, _OLD_REGION, _ZONE, _REGION)
_NO_PLACE = tuple(Requirement(key, "DoesNotExist") for key in _PLACES)


@dataclass(frozen=True, slots=True)
class ClaimInfo:
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    uid: str = ""
    owner: str = ""  # uid of the object that controls it
    class_name: str = ""
    volume: str = ""  # the PersistentVolume it is bound to, or shall be
    bound: bool = False  # both sides know: annotation pv.kubernetes.io/bind-completed
    lost: bool = False  # its volume is gone
    terminating: bool = False
    selected_node: str = ""  # a volume is being made for this node
    access_modes: tuple[str, ...] = ()
    block: bool = False  # volumeMode Block instead of Filesystem
    size: int = 0  # bytes
    attributes_class: str = ""
    selector: LabelSelector = ()  # of volumes


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A PersistentVolume."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    class_name: str = ""
    claim: tuple[str, str, str] | None = None  # namespace, name and uid ("" if open) of the claim it is kept for
    available: bool = False  # phase Available
    terminating: bool = False
    access_modes: tuple[str, ...] = ()
    block: bool = False
    size: int = 0  # bytes
    attributes_class: str = ""
    terms: tuple[SelectorTerm, ...] | None = None  # nodes that can reach it; None: all


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """A StorageClass."""

    name: str
    provisioner: str = ""
    delayed: bool = False  # volumeBindingMode WaitForFirstConsumer
    terms: tuple[SelectorTerm, ...] | None = None  # allowedTopologies; None: everywhere


class Storage:
    """Claims by "namespace/name", volumes and classes by name, at one moment."""

    def __init__(
        self,
        claims: Mapping[str, ClaimInfo],
        volumes: Mapping[str, VolumeInfo],
        classes: Mapping[str, ClassInfo],
    ) -> None:
        self._claims = claims
        self._volumes = volumes
        self._classes = classes
        self._free: dict[str, list[VolumeInfo]] | None = None  # by class, the smallest first

    def with_volumes(self, pod: PodInfo) -> PodInfo:
        """The pod with what its claims ask of a node; the same object if it has none or nothing changed."""
        if not pod.claims:
            return pod
        found = [self._claims.get(f"{pod.key.namespace}/{name}") for name in pod.claims]
        claims = [claim for claim in found if claim is not None]
        problem = next(filter(None, map(self._problem, [pod] * len(found), pod.claims, found)), "")
        volumes = () if problem else self._needs(pod, claims)
        exclusive = tuple(
            dict.fromkeys(
                claim.name for claim in claims if ONE_POD in claim.access_modes and claim.name not in pod.own_claims
            )
        )
        if (problem, volumes, exclusive) == (pod.problem, pod.volumes, pod.exclusive_claims):
            return pod
        return replace(pod, problem=problem, volumes=volumes, exclusive_claims=exclusive)

    def _problem(self, pod: PodInfo, name: str, claim: ClaimInfo | None) -> str:
        """Why no node at all could serve this claim."""
        own = name in pod.own_claims
        if claim is None:
            return f"its claim {name} has yet to be made" if own else f"its claim {name} does not exist"
        if claim.lost:
            return f"the volume {claim.volume} of its claim {name} is gone"
        if claim.terminating:
            return f"its claim {name} is being deleted"
        if own and claim.owner != pod.key.uid:
            return f"its claim {name} was made for somebody else"
        if claim.bound:
            return (
                "" if claim.volume in self._volumes else f"the volume {claim.volume} of its claim {name} is not there"
            )
        kind = self._classes.get(claim.class_name) if claim.class_name else None
        if kind is None or not kind.delayed or claim.volume:
            return f"its claim {name} is not bound to a volume yet"
        return ""

    def _needs(self, pod: PodInfo, claims: Iterable[ClaimInfo]) -> tuple[VolumeNeed, ...]:
        """What each claim asks of a node; those without a volume by size, the order in which they are served."""
        bound, open_ = [], []
        for claim in claims:
            if not claim.bound:
                open_.append(claim)
                continue
            volume = self._volumes[claim.volume]
            terms = reachable(volume.terms)
            if claim.name not in pod.own_claims:  # VolumeZone looks at named claims alone
                terms = _with_places(terms, volume.labels)
            bound.append(VolumeNeed(claim.name, (VolumeChoice(terms),)))
        open_.sort(key=lambda claim: claim.size)
        needs = [*bound, *(VolumeNeed(claim.name, tuple(self._choices(claim))) for claim in open_)]
        return tuple(
            need for need in needs if any(each.terms is not None or each.volume for each in need.choices[:1])
        )

    def _choices(self, claim: ClaimInfo) -> Iterable[VolumeChoice]:
        """Volumes that are there, then one made on demand."""
        kind = self._classes[claim.class_name]
        if not claim.selected_node:
            for volume in self._candidates(claim):
                yield VolumeChoice(reachable(volume.terms), volume.name)
        if kind.provisioner and kind.provisioner != NO_PROVISIONER:
            yield VolumeChoice(_on_node(kind.terms, claim.selected_node))
        else:
            yield VolumeChoice(())  # within reach of no node: the end of the list

    def _candidates(self, claim: ClaimInfo) -> list[VolumeInfo]:
        fitting = [volume for volume in self._of_class(claim.class_name) if _fits(volume, claim)]
        kept = [volume for volume in fitting if volume.claim is not None]
        return kept[:1] or [volume for volume in fitting if _free_for(volume, claim)]

    def _of_class(self, name: str) -> list[VolumeInfo]:
        if self._free is None:
            self._free = {}
            for volume in sorted(self._volumes.values(), key=lambda each: (each.size, each.name)):
                self._free.setdefault(volume.class_name, []).append(volume)
        return self._free.get(name, [])


def reachable(terms: tuple[SelectorTerm, ...] | None) -> tuple[SelectorTerm, ...] | None:
    """A volume's node affinity: labels alone count, and a term that asks for a field alone lets every node in."""
    if terms is None or any(term.fields and not term.labels for term in terms):
        return None
    return tuple(SelectorTerm(term.labels) for term in terms if term.labels)


def _with_places(
    terms: tuple[SelectorTerm, ...] | None, labels: Mapping[str, str]
) -> tuple[SelectorTerm, ...] | None:
    """The terms, narrowed by a volume's zone and region labels, which bind on nodes that have such labels at all."""
    wanted = []
    for key in _PLACES:
        zones = [each.strip() for each in labels[key].split("__")] if key in labels else []
        if zones and all(zones):
            wanted.append(_place(key, tuple(zones)))
    if not wanted:
        return terms
    places = [_NO_PLACE, *(sum(each, ()) for each in product(*wanted))]
    # Without node affinity the places are all that is asked; with an affinity of no terms nothing can match.
    labels_of_terms = [()] if terms is None else [term.labels for term in terms]
    return tuple(SelectorTerm((*each, *place)) for each in labels_of_terms for place in places)


def _place(key: str, zones: tuple[str, ...]) -> list[tuple[Requirement, ...]]:
    """Ways to satisfy one label of a volume: a node may carry it under its newer name."""
    ways: list[tuple[Requirement, ...]] = [(Requirement(key, "In", zones),)]
    if key in _NEW_NAME:
        ways.append((Requirement(key, "DoesNotExist"), Requirement(_NEW_NAME[key], "In", zones)))
    return ways


def _on_node(terms: tuple[SelectorTerm, ...] | None, name: str) -> tuple[SelectorTerm, ...] | None:
    if not name:
        return terms
    here = (Requirement(NAME_FIELD, "In", (name,)),)
    return (SelectorTerm(fields=here),) if terms is None else tuple(SelectorTerm(one.labels, here) for one in terms)


def _fits(volume: VolumeInfo, claim: ClaimInfo) -> bool:
    """What a volume must be for a claim, also for the claim that it is kept for."""
    if volume.claim is not None:
        namespace, name, uid = volume.claim
        if (namespace, name) != (claim.namespace, claim.name) or uid not in ("", claim.uid):
            return False
    alike = (volume.block, volume.attributes_class) == (claim.block, claim.attributes_class)
    return alike and volume.size >= claim.size and not volume.terminating


def _free_for(volume: VolumeInfo, claim: ClaimInfo) -> bool:
    return (
        volume.available
        and selects(claim.selector, volume.labels)
        and set(claim.access_modes) <= set(volume.access_modes)
    )
