"""Rules of pods about other pods, among the pods of one plan."""

from __future__ import annotations

from collections import Counter

from cdmo.model.cluster import PodInfo
from cdmo.model.plan import Plan
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import Requirement
from cdmo.model.snapshot import MigNodeView
from tests.builders import IDLE, PodParts, h100, host, node, pod, snapshot
from tests.planner.expect import assignment, planned, published, waits

WEB = (Requirement("app", "In", ("web",)),)
LABELS = (("app", "web"),)
SPREAD: PodParts = {"labels": LABELS, "spread": (SpreadRule(1, "zone", WEB),)}
APART: PodParts = {"labels": LABELS, "anti_affinity": (PodTerm("host", WEB, ("ml",)),)}
TOGETHER: PodParts = {"labels": LABELS, "affinity": (PodTerm("zone", WEB, ("ml",)),)}


def zone(name: str, of: str, gpus: int = 2) -> MigNodeView:
    return node(name, [h100() for _ in range(gpus)], labels={"zone": of, "host": name})


ZONES = [zone("a-1", "a"), zone("b-1", "b"), zone("c-1", "c")]


def pods(count: int, parts: PodParts) -> list[PodInfo]:
    return [pod(f"p{number}", "1g.10gb", **parts) for number in range(count)]


def by_node(answer: Plan) -> Counter[str]:
    return Counter(each.node for each in answer.placements)


def test_pods_of_one_plan_spread_over_zones() -> None:
    assert by_node(planned(snapshot(ZONES, pods(7, SPREAD)))).most_common() == [("a-1", 3), ("b-1", 2), ("c-1", 2)]


def test_pods_that_run_count_wherever_they_run() -> None:
    web = [pod("web", on="web-1", labels=LABELS)]
    answer = planned(snapshot(ZONES, pods(2, SPREAD), others=[host("web-1", web, zone="a", host="web-1")]))
    assert by_node(answer) == {"b-1": 1, "c-1": 1}


def test_pods_of_one_plan_keep_apart() -> None:
    answer = planned(snapshot(ZONES, pods(4, APART)))
    assert by_node(answer) == {"a-1": 1, "b-1": 1, "c-1": 1}
    assert "anti-affinity" in waits(answer, "p3")[1]


def test_a_pod_without_rules_is_kept_away_by_one_that_this_plan_placed() -> None:
    crowd = [*pods(1, APART), *(pod(f"q{number}", "1g.10gb", labels=LABELS) for number in range(2))]
    answer = planned(snapshot([zone("a-1", "a"), zone("b-1", "b")], crowd))
    lonely = assignment(answer, "p0").node
    assert by_node(answer)[lonely] == 1
    assert len(answer.placements) == 3


def test_the_first_of_a_group_starts_anywhere_and_the_others_follow() -> None:
    answer = planned(snapshot(ZONES, pods(5, TOGETHER)))
    assert len(by_node(answer)) == 1 and len(answer.placements) == 5


def test_a_pod_follows_those_that_run_in_a_zone() -> None:
    web = [pod("web", on="web-1", labels=LABELS)]
    nodes = [node("a-1", [h100({"1g.10gb@6": IDLE})], labels={"zone": "a"}), zone("b-1", "b")]
    answer = planned(snapshot(nodes, pods(1, TOGETHER), others=[host("web-1", web, zone="b")]))
    assert by_node(answer) == {"b-1": 1}


def test_company_that_comes_with_the_same_plan_is_company() -> None:
    seeker: PodParts = {"affinity": (PodTerm("zone", WEB, ("ml",)),)}
    crowd = [pod("seeker", "1g.10gb", created=1, **seeker), pod("web", "1g.10gb", created=2, labels=LABELS)]
    first = snapshot(ZONES, crowd)
    answer = planned(first)
    assert len(answer.placements) == 2
    assert planned(published(first, answer)).placements == answer.placements


_ALL_ZONES = SpreadRule(1, "zone", WEB, honor_affinity=False)


def test_a_zone_that_fills_up_in_a_plan_lets_those_in_that_it_kept_out() -> None:
    # One web pod runs in zone a: the first may not join it there until zone b has one too.
    nodes = [zone("a-1", "a"), node("b-1", [h100()], labels={"zone": "b"}, allocatable={"cpu": 1_000})]
    bound = [pod("there", on="a-1", labels=LABELS)]
    crowd = [
        pod("kept-out", "1g.10gb", created=1, selector={"zone": "a"}, labels=LABELS, spread=(_ALL_ZONES,)),
        pod("opens", "1g.10gb", created=2, selector={"zone": "b"}, labels=LABELS),
    ]
    first = snapshot(nodes, crowd, bound)
    answer = planned(first)
    assert {each.pod.name for each in answer.placements} == {"kept-out", "opens"}
    assert planned(published(first, answer)).placements == answer.placements


def test_rules_hold_while_the_largest_are_placed_first() -> None:
    nodes = [node("a-1", [h100()], labels={"zone": "a", "host": "a-1"}), zone("b-1", "b", 1)]
    crowd = [
        pod("p0", "2g.20gb", created=1, **APART),
        pod("p1", "2g.20gb", created=2, **APART),
        pod("p2", "3g.40gb", created=3),
        pod("p3", "4g.40gb", created=4),
        pod("p4", "4g.40gb", created=5),
    ]
    answer = planned(snapshot(nodes, crowd))
    assert len(answer.placements) >= 4
    assert assignment(answer, "p0").node != assignment(answer, "p1").node
