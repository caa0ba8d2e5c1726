"""Where a pod may run, as the kube-scheduler's filters judge it."""

from __future__ import annotations

import pytest

from cdmo.model.cluster import PodInfo, Requirement, SelectorTerm, Taint, Toleration
from cdmo.model.names import REPARTITIONING_TAINT
from cdmo.planner.eligible import Bar, obstacle, room_of, shortage
from tests.builders import GIB, node, pod

HERE = node("gpu-1", labels={"zone": "a", "generation": "9"}).node


def sentence(of: PodInfo, **node_parts: object) -> str:
    """What keeps the pod from a node with these parts; empty when it may run there."""
    found = obstacle(of, node("gpu-1", **node_parts).node)  # type: ignore[arg-type]
    return found.sentence if found else ""


def matches(*terms: SelectorTerm) -> bool:
    return obstacle(pod("a", "1g.10gb", affinity=terms), HERE) is None


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
