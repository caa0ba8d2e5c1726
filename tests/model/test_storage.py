"""What a pod's claims ask of a node, as the scheduler's volume plugins judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.model.cluster import PodInfo
from cdmo.model.selectors import Requirement, SelectorTerm
from cdmo.model.storage import NO_PROVISIONER, ClaimInfo, ClassInfo, Storage, VolumeInfo
from cdmo.planner.eligible import obstacle
from tests.builders import node
from tests.builders import pod as plain_pod

ZONE = "topology.kubernetes.io/zone"
OLD_ZONE = "failure-domain.beta.kubernetes.io/zone"

PLACES = {"place_zone": ZONE, "place_region": "topology.kubernetes.io/region", "old_place_zone": OLD_ZONE}

DELAYED = ClassInfo("delayed", "csi.example.com", delayed=True)
LOCAL = ClassInfo("local", NO_PROVISIONER, delayed=True)
IMMEDIATE = ClassInfo("immediate", "csi.example.com")
BOUND = ClaimInfo("ml", "data", class_name="immediate", volume="v", bound=True)
OPEN = ClaimInfo("ml", "data", class_name="local", size=5, access_modes=("ReadWriteOnce",))


def within(key: str, *values: str) -> SelectorTerm:
    return SelectorTerm((Requirement(key, "In", values),))


def using(*claims: str, own: tuple[str, ...] = ()) -> PodInfo:
    return replace(plain_pod("train", "1g.10gb"), claims=claims, own_claims=own)


def storage(*items: ClaimInfo | VolumeInfo | ClassInfo) -> Storage:
    return Storage(
        {f"{one.namespace}/{one.name}": one for one in items if isinstance(one, ClaimInfo)},
        {one.name: one for one in items if isinstance(one, VolumeInfo)},
        {one.name: one for one in (*items, DELAYED, LOCAL, IMMEDIATE) if isinstance(one, ClassInfo)},
    )


def free(name: str, zone: str = "", size: int = 10, **parts: object) -> VolumeInfo:
    """A volume of class local that no claim has yet."""
    terms = (within("zone", zone),) if zone else None
    volume = VolumeInfo(
        name, class_name="local", available=True, size=size, terms=terms, access_modes=("ReadWriteOnce",)
    )
    return replace(volume, **parts)  # type: ignore[arg-type]


def runs(pod: PodInfo, name: str = "n1", **labels: str) -> bool:
    """Whether the pod may run on a node with these labels; `place_zone` and the like stand for Kubernetes' own."""
    named = {PLACES.get(key, key): value for key, value in labels.items()}
    return obstacle(pod, node(name, labels=named).node) is None


def test_a_pod_without_claims_stays_the_object_it_was() -> None:
    pod = using()
    assert storage(BOUND).with_volumes(pod) is pod


def test_joining_again_changes_nothing() -> None:
    known = storage(BOUND, VolumeInfo("v", terms=(within("zone", "a"),)))
    joined = known.with_volumes(using("data"))
    assert joined.volumes
    assert known.with_volumes(joined) is joined


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        (None, "its claim data does not exist"),
        (replace(BOUND, lost=True), "the volume v of its claim data is gone"),
        (replace(BOUND, terminating=True), "its claim data is being deleted"),
        (BOUND, "the volume v of its claim data is not there"),
        (replace(BOUND, bound=False), "its claim data is not bound to a volume yet"),
        (ClaimInfo("ml", "data", class_name="immediate"), "its claim data is not bound to a volume yet"),
        (ClaimInfo("ml", "data"), "its claim data is not bound to a volume yet"),
        (ClaimInfo("ml", "data", class_name="nowhere"), "its claim data is not bound to a volume yet"),
        (ClaimInfo("ml", "data", class_name="delayed", volume="v"), "its claim data is not bound to a volume yet"),
    ],
)
def test_a_claim_that_cannot_be_served_anywhere_is_a_sentence(claim: ClaimInfo | None, problem: str) -> None:
    joined = storage(*([claim] if claim else [])).with_volumes(using("data"))
    assert joined.problem == problem
    found = obstacle(joined, node("n1").node)
    assert found is not None and found.sentence == problem


def test_a_problem_that_is_over_is_forgotten() -> None:
    stuck = storage().with_volumes(using("data"))
    assert storage(BOUND, VolumeInfo("v")).with_volumes(stuck) == using("data")


def test_a_claim_made_for_one_pod_serves_no_other() -> None:
    pod = using("train-scratch", own=("train-scratch",))
    claim = ClaimInfo("ml", "train-scratch", class_name="delayed", owner=pod.key.uid)
    assert storage(claim).with_volumes(pod).problem == ""
    assert (
        storage(replace(claim, owner="x")).with_volumes(pod).problem
        == "its claim train-scratch was made for somebody else"
    )
    assert storage().with_volumes(pod).problem == "its claim train-scratch has yet to be made"


def test_a_bound_claim_is_served_where_its_volume_can_be_reached() -> None:
    joined = storage(BOUND, VolumeInfo("v", terms=(within("zone", "a"), within("zone", "b")))).with_volumes(
        using("data")
    )
    assert runs(joined, zone="a") and runs(joined, zone="b")
    assert not runs(joined, zone="c") and not runs(joined)


def test_a_volume_that_every_node_can_reach_asks_for_nothing() -> None:
    assert storage(BOUND, VolumeInfo("v")).with_volumes(using("data")).volumes == ()


def test_fields_in_a_volumes_affinity_are_passed_over() -> None:
    name = Requirement("metadata.name", "In", ("n9",))
    alone = storage(BOUND, VolumeInfo("v", terms=(SelectorTerm(fields=(name,)),))).with_volumes(using("data"))
    assert runs(alone)
    both = VolumeInfo("v", terms=(SelectorTerm(within("zone", "a").labels, (name,)), SelectorTerm()))
    assert runs(storage(BOUND, both).with_volumes(using("data")), zone="a")
    assert not runs(storage(BOUND, both).with_volumes(using("data")), zone="b")


def test_a_volumes_zone_binds_on_nodes_that_have_zones_at_all() -> None:
    joined = storage(BOUND, VolumeInfo("v", labels={ZONE: "a__b"})).with_volumes(using("data"))
    assert runs(joined)
    assert runs(joined, place_zone="b")
    assert not runs(joined, place_zone="c")
    assert not runs(joined, place_region="r")


def test_an_old_zone_label_is_looked_for_under_its_new_name_too() -> None:
    joined = storage(BOUND, VolumeInfo("v", labels={OLD_ZONE: "a"})).with_volumes(using("data"))
    assert runs(joined, place_zone="a")
    assert runs(joined, old_place_zone="a")
    assert not runs(joined, old_place_zone="b", place_zone="a")


def test_zones_and_affinity_must_both_hold() -> None:
    volume = VolumeInfo("v", labels={ZONE: "a"}, terms=(within("disk", "ssd"),))
    joined = storage(BOUND, volume).with_volumes(using("data"))
    assert runs(joined, place_zone="a", disk="ssd")
    assert runs(joined, disk="ssd")
    assert not runs(joined, place_zone="b", disk="ssd")
    assert not runs(joined, place_zone="a")


def test_a_volume_to_be_made_follows_its_class_and_the_node_that_was_chosen() -> None:
    zonal = ClassInfo("zonal", "csi.example.com", delayed=True, terms=(within("zone", "a"),))
    claim = ClaimInfo("ml", "data", class_name="zonal")
    assert runs(storage(claim, zonal).with_volumes(using("data")), zone="a")
    assert not runs(storage(claim, zonal).with_volumes(using("data")), zone="b")
    chosen = storage(replace(claim, selected_node="n1"), zonal).with_volumes(using("data"))
    assert runs(chosen, "n1", zone="a")
    assert not runs(chosen, "n1", zone="b")
    assert not runs(chosen, "n2", zone="a")


@pytest.mark.parametrize(
    ("volume", "served"),
    [
        (free("v"), True),
        (free("v", size=4), False),
        (free("v", access_modes=("ReadOnlyMany",)), False),
        (free("v", available=False), False),
        (free("v", terminating=True), False),
        (free("v", block=True), False),
        (free("v", attributes_class="gold"), False),
        (free("v", class_name="other"), False),
        (free("v", claim=("ml", "data", "")), True),
        (free("v", claim=("ml", "data", "other-uid")), False),
        (free("v", claim=("ml", "other", "")), False),
        (free("v", claim=("ml", "data", ""), available=False, access_modes=()), True),
    ],
)
def test_an_open_claim_finds_a_volume_that_suits_it(volume: VolumeInfo, served: bool) -> None:
    assert runs(storage(OPEN, volume).with_volumes(using("data"))) is served


def test_a_claims_selector_chooses_among_volumes() -> None:
    picky = replace(OPEN, selector=(Requirement("tier", "In", ("fast",)),))
    assert not runs(storage(picky, free("v")).with_volumes(using("data")))
    assert runs(storage(picky, free("v", labels={"tier": "fast"})).with_volumes(using("data")))


def test_a_volume_kept_for_a_claim_is_the_only_one_it_takes() -> None:
    kept = free("kept", "a", claim=("ml", "data", ""))
    joined = storage(OPEN, kept, free("other", "b")).with_volumes(using("data"))
    assert runs(joined, zone="a")
    assert not runs(joined, zone="b")


def test_two_claims_of_a_pod_need_two_volumes() -> None:
    second = replace(OPEN, name="more")
    one_each = [free("v1", "a"), free("v2", "a"), free("v3", "b")]
    joined = storage(OPEN, second, *one_each).with_volumes(using("data", "more"))
    assert runs(joined, zone="a")
    assert not runs(joined, zone="b")


def test_the_smaller_claim_takes_the_smaller_volume() -> None:
    large, small = replace(OPEN, name="large", size=9), replace(OPEN, name="small", size=1)
    joined = storage(large, small, free("v1", size=2), free("v2", size=9)).with_volumes(using("large", "small"))
    assert runs(joined)


def test_claims_for_one_pod_alone_are_told_apart() -> None:
    claim = replace(BOUND, access_modes=("ReadWriteOncePod",))
    assert storage(claim, VolumeInfo("v")).with_volumes(using("data")).exclusive_claims == ("data",)
