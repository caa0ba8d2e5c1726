"""Where a pod may run, as the kube-scheduler's filters judge it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.model.cluster import (
    HostPort,
    NodeInfo,
    PodInfo,
    Requirement,
    SelectorTerm,
    Taint,
    Toleration,
    VolumeChoice,
    VolumeNeed,
)
from cdmo.model.names import REPARTITIONING_TAINT
from cdmo.planner.eligible import Bar, Eligibility, give, kind_of, needs, obstacle, room_of, shortage, signature, take
from tests.builders import GIB, node, pod

HERE = node("gpu-1", labels={"zone": "a", "generation": "9"}).node


def sentence(of: PodInfo, **node_parts: object) -> str:
    """What keeps the pod from a node with these parts; empty when it may run there."""
    found = obstacle(of, node("gpu-1", **node_parts).node)  # type: ignore[arg-type]
    return found.sentence if found else ""


def matches(*terms: SelectorTerm) -> bool:
    return obstacle(pod("a", "1g.10gb", node_affinity=terms), HERE) is None


def label(key: str, operator: str, *values: str) -> SelectorTerm:
    return SelectorTerm(labels=(Requirement(key, operator, values),))


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (label("zone", "In", "a", "b"), True),
        (label("zone", "In", "b"), False),
        (label("absent", "In", "a"), False),
        (label("zone", "NotIn", "b"), True),
        (label("zone", "NotIn", "a"), False),
        (label("absent", "NotIn", "a"), True),
        (label("zone", "Exists"), True),
        (label("absent", "Exists"), False),
        (label("absent", "DoesNotExist"), True),
        (label("zone", "DoesNotExist"), False),
        (label("generation", "Gt", "8"), True),
        (label("generation", "Gt", "9"), False),
        (label("generation", "Lt", "10"), True),
        (label("generation", "Lt", "9"), False),
        (label("zone", "Gt", "1"), False),
        (label("absent", "Lt", "1"), False),
        (label("generation", "Gt", "8", "9"), False),
        (label("zone", "Fancy", "a"), False),
        (SelectorTerm(fields=(Requirement("metadata.name", "In", ("gpu-1",)),)), True),
        (SelectorTerm(fields=(Requirement("metadata.name", "NotIn", ("gpu-1",)),)), False),
        (SelectorTerm(), False),
    ],
)
def test_a_node_affinity_term_matches_as_kubernetes_says(term: SelectorTerm, expected: bool) -> None:
    assert matches(term) is expected


def test_any_term_suffices_and_no_term_at_all_matches_nothing() -> None:
    assert matches(label("zone", "In", "b"), label("zone", "In", "a"))
    assert not matches()


def test_all_requirements_of_a_term_must_hold() -> None:
    both = SelectorTerm(labels=(Requirement("zone", "Exists"), Requirement("generation", "Gt", ("99",))))
    assert not matches(both)


def test_a_node_selector_wants_every_label() -> None:
    assert obstacle(pod("a", selector={"zone": "a"}), HERE) is None
    assert sentence(pod("a", selector={"zone": "b"})) == "the pod's nodeSelector wants zone=b"


def test_a_pod_that_names_its_node_runs_nowhere_else() -> None:
    assert sentence(pod("a", on="gpu-9")) == "the pod names node gpu-9"


def test_a_cordon_bars_unless_tolerated() -> None:
    tolerant = pod("a", tolerations=[Toleration("node.kubernetes.io/unschedulable", "Exists")])
    assert sentence(pod("a"), cordoned=True) == "it is cordoned"
    assert sentence(tolerant, cordoned=True) == ""


def test_a_taint_bars_unless_tolerated() -> None:
    taints = [Taint("dedicated", "ml", "NoExecute")]
    assert sentence(pod("a"), taints=taints) == "the pod does not tolerate its taint dedicated=ml:NoExecute"
    for toleration in (
        Toleration("dedicated", "Equal", "ml"),
        Toleration("dedicated", "Exists"),
        Toleration("", "Exists"),
        Toleration("dedicated", "Equal", "ml", "NoExecute"),
    ):
        assert sentence(pod("a", tolerations=[toleration]), taints=taints) == ""
    for toleration in (Toleration("dedicated", "Equal", "x"), Toleration("dedicated", "Exists", "", "NoSchedule")):
        assert sentence(pod("a", tolerations=[toleration]), taints=taints) != ""


def test_a_taint_that_only_prefers_and_cdmos_own_do_not_count() -> None:
    own = [Taint(REPARTITIONING_TAINT, "", "NoSchedule"), Taint("slow", "", "PreferNoSchedule")]
    assert sentence(pod("a"), taints=own) == ""


def test_a_node_that_is_not_ready_is_told_from_one_that_never_fits() -> None:
    found = obstacle(pod("a"), node("gpu-1", ready=False, taints=[Taint("not-ready", "", "NoSchedule")]).node)
    assert found is not None and found.bar is Bar.NOT_READY


@pytest.mark.parametrize(
    ("requests", "bar", "text"),
    [
        ({"cpu": 4_000}, Bar.BUSY, "the pod asks for 4000m of cpu, 3000m of cpu is left there"),
        ({"cpu": 9_000}, Bar.NEVER, "the pod asks for 9000m of cpu, 3000m of cpu is left there"),
        ({"memory": 3 * GIB}, Bar.BUSY, "the pod asks for 3072Mi of memory, 2048Mi of memory is left there"),
        (
            {"example.com/nic": 1},
            Bar.NEVER,
            "the pod asks for 1 of example.com/nic, 0 of example.com/nic is left there",
        ),
    ],
)
def test_what_bound_pods_leave_must_suffice(requests: dict[str, int], bar: Bar, text: str) -> None:
    view = node("gpu-1", allocatable={"cpu": 4_000, "memory": 3 * GIB})
    room = room_of(view.node, [pod("old", "1g.10gb", on="gpu-1")])
    found = shortage(pod("a", "1g.10gb", requests=requests), view.node, room)
    assert found is not None and (found.bar, found.sentence) == (bar, text)


def test_a_node_takes_no_more_pods_than_it_says() -> None:
    view = node("gpu-1", allocatable={"pods": 1})
    assert shortage(pod("a"), view.node, room_of(view.node, ())) is None
    found = shortage(pod("a"), view.node, room_of(view.node, [pod("old", on="gpu-1")]))
    assert found is not None and (found.bar, found.sentence) == (Bar.BUSY, "it takes no more pods")


def test_mig_slices_are_not_room_of_the_node() -> None:
    view = node("gpu-1")
    assert shortage(pod("a", {"7g.80gb": 3}), view.node, room_of(view.node, ())) is None


def test_a_toleration_that_compares_tolerates_nothing_while_its_feature_is_off() -> None:
    taints = [Taint("level", "5", "NoSchedule")]
    for operator in ("Gt", "Lt", "Near"):
        assert sentence(pod("a", tolerations=[Toleration("level", operator, "5")]), taints=taints) != ""


def test_a_pod_with_a_problem_runs_nowhere_and_says_why() -> None:
    stuck = replace(pod("a"), problem="its claim data does not exist")
    assert sentence(stuck) == "its claim data does not exist"


def test_each_claim_needs_a_volume_within_reach_of_the_node() -> None:
    here, there = (SelectorTerm((Requirement("zone", "In", (zone,)),)) for zone in "ab")
    one, two = VolumeChoice((here,), "v1"), VolumeChoice((here, there), "v2")
    served = replace(pod("a"), volumes=(VolumeNeed("x", (one,)), VolumeNeed("y", (one, two))))
    assert sentence(served, labels={"zone": "a"}) == ""
    assert sentence(served, labels={"zone": "b"}) == "no volume for the pod's claim x is within its reach"
    twice = replace(pod("a"), volumes=(VolumeNeed("x", (one,)), VolumeNeed("y", (one,))))
    assert sentence(twice, labels={"zone": "a"}) == "no volume for the pod's claim y is within its reach"
    made = replace(pod("a"), volumes=(VolumeNeed("x", (one, VolumeChoice(None))),))
    assert sentence(made, labels={"zone": "c"}) == ""


# --- host ports ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "wanted", "free"),
    [
        (HostPort(80), HostPort(80), False),
        (HostPort(80), HostPort(81), True),
        (HostPort(80), HostPort(80, "UDP"), True),
        (HostPort(80, "TCP", "10.0.0.1"), HostPort(80), False),
        (HostPort(80), HostPort(80, "TCP", "10.0.0.1"), False),
        (HostPort(80, "TCP", "10.0.0.1"), HostPort(80, "TCP", "10.0.0.1"), False),
        (HostPort(80, "TCP", "10.0.0.1"), HostPort(80, "TCP", "10.0.0.2"), True),
    ],
)
def test_a_port_is_taken_on_its_address_or_on_all(taken: HostPort, wanted: HostPort, free: bool) -> None:
    there = replace(pod("old", on="gpu-1"), host_ports=(taken,))
    room = room_of(HERE, [there])
    new = replace(pod("a"), host_ports=(wanted,))
    found = shortage(new, HERE, room)
    assert (found is None) is free
    if found is not None:
        assert (found.bar, found.sentence) == (Bar.BUSY, "port 80/TCP of it is taken")


def test_what_is_given_back_is_as_it_was() -> None:
    new = replace(pod("a"), host_ports=(HostPort(80), HostPort(80, "TCP", "10.0.0.1")))
    room = room_of(HERE, [])
    before = dict(room)
    take(room, new)
    assert shortage(new, HERE, dict(room)) is not None
    give(room, new)
    assert {name: left for name, left in room.items() if left} == before
    assert shortage(new, HERE, room) is None


def test_pods_that_need_the_same_share_what_they_need() -> None:
    assert needs(pod("a", "1g.10gb")) is needs(pod("b", "7g.80gb"))


# --- many nodes at once -------------------------------------------------------------------------------------------

KEYS, VALUES = st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", "x"])
TAINTS = st.lists(
    st.builds(Taint, KEYS, VALUES, st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])), max_size=2
)
REQUIREMENTS = st.builds(
    lambda key, operator, value: Requirement(key, operator, (value,) if operator in ("In", "NotIn", "Gt") else ()),
    KEYS,
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Odd"]),
    VALUES,
)
NAMES = st.sampled_from(["n0", "n1", "n2", "n3"])
FIELDS = st.builds(
    lambda how, name: Requirement("metadata.name", how, (name,)), st.sampled_from(["In", "NotIn"]), NAMES
)
TERMS = st.lists(
    st.builds(SelectorTerm, st.lists(REQUIREMENTS, max_size=2).map(tuple), st.lists(FIELDS, max_size=1).map(tuple)),
    max_size=2,
).map(tuple)
VOLUMES = st.lists(
    st.builds(
        lambda terms, volume: VolumeNeed("data", (VolumeChoice(terms, volume),)),
        st.none() | TERMS,
        st.sampled_from(["", "v"]),
    ),
    max_size=2,
).map(tuple)
PODS = st.builds(
    lambda on, selector, affinity, tolerations, volumes, problem: replace(
        pod("p", on=on, selector=selector, node_affinity=affinity, tolerations=tolerations),
        volumes=volumes,
        problem=problem,
    ),
    st.just("") | NAMES,
    st.dictionaries(KEYS, VALUES, max_size=1),
    st.none() | TERMS,
    st.lists(st.builds(Toleration, KEYS, st.sampled_from(["Equal", "Exists"]), VALUES), max_size=2),
    VOLUMES,
    st.sampled_from(["", "", "", "it has a problem"]),
)
NODES = st.lists(
    st.tuples(st.dictionaries(KEYS, VALUES, max_size=3), TAINTS, st.booleans(), st.booleans()), min_size=1, max_size=4
).map(
    lambda parts: [
        node(f"n{number}", labels=labels, taints=taints, cordoned=cordoned, ready=ready).node
        for number, (labels, taints, cordoned, ready) in enumerate(parts)
    ]
)


@given(pods=st.lists(PODS, min_size=1, max_size=4), nodes=NODES)
def test_many_nodes_are_judged_as_one_by_one(pods: list[PodInfo], nodes: list[NodeInfo]) -> None:
    eligibility = Eligibility()
    for each in (*pods, *pods):
        expected = [obstacle(each, one) for one in nodes]
        assert eligibility.judge(each, nodes) == expected
        assert [eligibility.obstacle(each, one) for one in nodes] == expected


@given(first=PODS, second=PODS, nodes=NODES)
def test_pods_of_one_kind_meet_the_same_obstacles(first: PodInfo, second: PodInfo, nodes: list[NodeInfo]) -> None:
    if kind_of(first) == kind_of(second):
        assert [obstacle(first, one) for one in nodes] == [obstacle(second, one) for one in nodes]
    renamed = replace(first, key=second.key, requests=second.requests, labels=(("app", "x"),))
    assert kind_of(renamed) == kind_of(first)


def test_a_signature_names_all_labels_and_nodes_that_are_looked_at() -> None:
    name = Requirement("metadata.name", "NotIn", ("n9",))
    affinity = [SelectorTerm((Requirement("zone", "Exists"),), (name,))]
    need = VolumeNeed(
        "data", (VolumeChoice((SelectorTerm((Requirement("rack", "Exists"),)),), "v"), VolumeChoice(None))
    )
    looking = replace(pod("a", on="n1", selector={"disk": "ssd"}, node_affinity=affinity), volumes=(need,))
    found = signature(kind_of(looking))
    assert found.keys == ("disk", "rack", "zone")
    assert found.names == {"n1", "n9"}
