"""Rules of pods about other pods: topology spread, required affinity and anti-affinity, claims for one pod alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.model.cluster import NodeInfo, PodInfo, SelectorTerm, Taint, Toleration
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import Requirement
from cdmo.planner.eligible import Bar
from cdmo.planner.relations import Relations
from tests.builders import key, node
from tests.builders import pod as plain_pod

WEB = (Requirement("app", "In", ("web",)),)
DB = (Requirement("app", "In", ("db",)),)


def pod(name: str, app: str = "web", **parts: object) -> PodInfo:
    """A pod of an app, with rules."""
    return replace(plain_pod(name), labels=(("app", app),), **parts)  # type: ignore[arg-type]


def host(name: str, zone: str = "", **parts: object) -> NodeInfo:
    labels = {"host": name, **({"zone": zone} if zone else {})}
    return node(name, labels=labels, **parts).node  # type: ignore[arg-type]


A1, A2, B1, C1 = host("a1", "a"), host("a2", "a"), host("b1", "b"), host("c1", "c")
LONE = host("lone")  # in no zone
ALL = (A1, A2, B1, C1, LONE)


def spread(**parts: object) -> PodInfo:
    """A web pod that spreads over zones."""
    return pod("new", spread=(SpreadRule(**{"max_skew": 1, "key": "zone", "selector": WEB, **parts}),))  # type: ignore[arg-type]


def term(key: str = "zone", selector: tuple[Requirement, ...] | None = WEB, *namespaces: str) -> PodTerm:
    return PodTerm(key, selector, namespaces or ("ml",))


def where(
    new: PodInfo,
    on: Mapping[str, Iterable[PodInfo]] | None = None,
    *,
    nodes: Iterable[NodeInfo] = ALL,
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The nodes on which the pod may run, with these pods on them."""
    nodes = tuple(nodes)
    relations = Relations(((each, tuple((on or {}).get(each.name, ()))) for each in nodes), namespaces or {})
    return " ".join(each.name for each in nodes if relations.obstacle(new, each) is None)


# --- topology spread ----------------------------------------------------------------------------------------------


def test_a_pod_without_rules_concerns_nobody() -> None:
    relations = Relations([(A1, [pod("x")])], {})
    assert not relations.concerns(pod("new"))
    assert relations.obstacle(pod("new"), A1) is None


def test_spread_allows_no_greater_difference_than_it_says() -> None:
    on = {"a1": [pod("x")], "b1": [pod("y")]}
    assert where(spread(), on) == "c1"
    assert where(spread(max_skew=2), on) == "a1 a2 b1 c1"


def test_spread_counts_pods_of_its_own_namespace_that_stay() -> None:
    other = replace(pod("x"), key=key("other/x"))
    on = {"a1": [other, pod("y", "db"), pod("z", terminating=True)]}
    assert where(spread(), on) == "a1 a2 b1 c1"


def test_spread_needs_the_label_and_counts_only_nodes_that_have_all_labels() -> None:
    both = pod("new", spread=(SpreadRule(1, "zone", WEB), SpreadRule(9, "rack", WEB)))
    racked = node("racked", labels={"zone": "d", "rack": "r"}).node
    assert where(both, {"a1": [pod("x")]}, nodes=(*ALL, racked)) == "racked"


def test_a_pod_that_its_own_rule_does_not_count_adds_nothing() -> None:
    on = {"a1": [pod("x")], "b1": [pod("y")]}
    assert where(replace(spread(), labels=(("app", "db"),)), on) == "a1 a2 b1 c1"


def test_a_selector_of_everything_counts_no_pod_but_itself() -> None:
    on = {"a1": [pod("x"), pod("y"), pod("z")]}
    assert where(spread(selector=()), on) == "a1 a2 b1 c1"
    assert where(spread(selector=(), max_skew=0), on) == ""


def test_no_selector_counts_nothing() -> None:
    assert where(spread(selector=None), {"a1": [pod("x"), pod("y")]}) == "a1 a2 b1 c1"


def test_too_few_domains_count_as_an_empty_one() -> None:
    on = {"a1": [pod("x")], "b1": [pod("y")], "c1": [pod("z")]}
    assert where(spread(), on) == "a1 a2 b1 c1"
    assert where(spread(min_domains=4), on) == ""


def test_zones_that_the_pod_cannot_choose_are_not_looked_at_unless_it_says_so() -> None:
    not_c = (SelectorTerm((Requirement("zone", "NotIn", ("c",)),)),)
    on = {"a1": [pod("x")], "b1": [pod("y")]}
    # Zone c would have to be filled first, were it looked at.
    assert where(replace(spread(), node_affinity=not_c), on).startswith("a1 a2 b1")
    assert where(replace(spread(honor_affinity=False), node_affinity=not_c), on) == "c1"


def test_taints_close_zones_only_where_the_rule_says_so() -> None:
    tainted = host("t1", "t", taints=[Taint("dedicated", "", "NoSchedule")])
    on = {"a1": [pod("x")]}
    nodes = (A1, tainted)
    assert where(spread(), on, nodes=nodes) == "t1"
    assert where(spread(honor_taints=True), on, nodes=nodes) == "a1 t1"
    tolerant = replace(spread(honor_taints=True), tolerations=(Toleration("dedicated", "Exists"),))
    assert where(tolerant, on, nodes=nodes) == "t1"


def test_a_spread_obstacle_says_how_many_are_where() -> None:
    relations = Relations([(A1, [pod("x"), pod("y")]), (B1, [])], {})
    found = relations.obstacle(spread(), A1)
    assert found is not None and found.bar is Bar.OTHERS
    assert (
        found.sentence
        == "zone=a already has 2 of its pods and zone=b 0: its topology spread allows a difference of 1"
    )
    missing = Relations([(LONE, [])], {}).obstacle(spread(), LONE)
    assert missing is not None and missing.bar is Bar.NEVER
    assert missing.sentence == "it has no label zone, over which the pod spreads"
    few = relations.obstacle(spread(min_domains=3, max_skew=2), A1)
    assert few is not None and few.sentence == (
        "zone=a already has 2 of its pods, and its topology spread allows no more than 2"
        " before there are 3 values of zone to choose from"
    )


# --- affinity and anti-affinity -----------------------------------------------------------------------------------


def test_affinity_goes_where_the_others_are() -> None:
    asks = pod("new", affinity=(term(selector=DB),))
    assert where(asks, {"a1": [pod("x", "db")]}) == "a1 a2"
    assert where(asks, {"lone": [pod("x", "db")]}) == ""


def test_one_pod_must_match_all_terms_of_an_affinity() -> None:
    asks = pod("new", affinity=(term(selector=DB), term("host", (Requirement("tier", "Exists"),))))
    tiered = replace(pod("x", "db"), labels=(("app", "db"), ("tier", "1")))
    assert where(asks, {"a1": [pod("x", "db")], "a2": [pod("y", "web")]}) == ""
    assert where(asks, {"a1": [tiered]}) == "a1"


def test_the_first_pod_of_a_group_may_start_anywhere_with_the_label() -> None:
    asks = pod("new", affinity=(term(),))
    assert where(asks) == "a1 a2 b1 c1"
    assert where(asks, {"b1": [pod("x")]}) == "b1"
    assert where(pod("new", "ml", affinity=(term(),))) == ""


def test_anti_affinity_keeps_away_from_the_whole_domain() -> None:
    assert where(pod("new", anti_affinity=(term(selector=DB),)), {"a1": [pod("x", "db")]}) == "b1 c1 lone"
    assert where(pod("new", anti_affinity=(term("host", DB),)), {"a1": [pod("x", "db")]}) == "a2 b1 c1 lone"


def test_pods_that_are_there_keep_others_away_too() -> None:
    shy = pod("x", "db", anti_affinity=(term(),))
    assert where(pod("new"), {"a1": [shy]}) == "b1 c1 lone"
    assert where(pod("new", "ml"), {"a1": [shy]}) == "a1 a2 b1 c1 lone"
    assert where(pod("new"), {"lone": [shy]}) == "a1 a2 b1 c1 lone"


@pytest.mark.parametrize(
    ("meant", "hit"),
    [
        (PodTerm("zone", DB, ("ml",)), False),
        (PodTerm("zone", DB, ("other",)), True),
        (PodTerm("zone", DB, (), ()), True),
        (PodTerm("zone", DB, (), (Requirement("team", "In", ("x",)),)), True),
        (PodTerm("zone", DB, (), (Requirement("team", "In", ("y",)),)), False),
        (PodTerm("zone", DB, ("ml",), (Requirement("team", "In", ("x",)),)), True),
        (PodTerm("zone", None, ("other",)), False),
        (PodTerm("zone", (), ("other",)), True),
    ],
)
def test_a_term_means_pods_of_the_namespaces_it_names_or_selects(meant: PodTerm, hit: bool) -> None:
    there = replace(pod("x", "db"), key=key("other/x"))
    namespaces = {"other": {"team": "x"}, "ml": {}}
    found = where(pod("new", anti_affinity=(meant,)), {"a1": [there]}, namespaces=namespaces)
    assert found == ("b1 c1 lone" if hit else "a1 a2 b1 c1 lone")


@pytest.mark.parametrize(
    ("meant", "hit"),
    [
        (PodTerm("zone", WEB, ("ml",)), True),
        (PodTerm("zone", WEB, ("other",)), False),
        (PodTerm("zone", WEB, (), ()), True),
        (PodTerm("zone", WEB, (), (Requirement("team", "In", ("x",)),)), True),
        (PodTerm("zone", WEB, (), (Requirement("team", "In", ("y",)),)), False),
    ],
)
def test_terms_of_pods_that_are_there_look_at_the_newcomers_namespace(meant: PodTerm, hit: bool) -> None:
    there = replace(pod("x", "db", anti_affinity=(meant,)), key=key("other/x"))
    found = where(pod("new"), {"a1": [there]}, namespaces={"other": {}, "ml": {"team": "x"}})
    assert found == ("b1 c1 lone" if hit else "a1 a2 b1 c1 lone")


def test_a_namespace_that_is_not_known_has_its_name_for_a_label() -> None:
    named = PodTerm("zone", DB, (), (Requirement("kubernetes.io/metadata.name", "In", ("other",)),))
    there = replace(pod("x", "db"), key=key("other/x"))
    assert where(pod("new", anti_affinity=(named,)), {"a1": [there]}) == "b1 c1 lone"


def test_affinity_obstacles_say_what_is_missing_or_in_the_way() -> None:
    relations = Relations([(A1, [pod("x", "db")]), (B1, [pod("y", anti_affinity=(term(),))]), (LONE, [])], {})
    asks, avoids = pod("new", affinity=(term(selector=DB),)), pod("new", anti_affinity=(term(selector=DB),))
    found = [
        relations.obstacle(asks, B1),
        relations.obstacle(asks, LONE),
        relations.obstacle(avoids, A1),
        relations.obstacle(pod("new"), B1),
    ]
    assert [each.sentence for each in found if each] == [
        "the pod's affinity asks for pods with app=db in zone=b",
        "it has no label zone, by which the pod's affinity goes",
        "the pod's anti-affinity is about pods with app=db, as run in zone=a",
        "the anti-affinity of pods in zone=b keeps it away",
    ]


def test_a_claim_for_one_pod_alone_is_used_once() -> None:
    user = pod("x", claims=("data",))
    wants = pod("new", claims=("data",), exclusive_claims=("data",))
    assert where(wants, {"a1": [user]}) == ""
    assert where(wants, {"a1": [replace(user, key=key("other/x"))]}) == "a1 a2 b1 c1 lone"
    relations = Relations([(A1, [])], {})
    assert relations.obstacle(wants, A1) is None
    relations.place(user, "a1")
    assert relations.obstacle(wants, A1) is not None
    relations.unplace(user, "a1")
    assert relations.obstacle(wants, A1) is None


# --- what is planned counts ---------------------------------------------------------------------------------------

RULES = st.sampled_from(
    [
        {},
        {"spread": (SpreadRule(1, "zone", WEB),)},
        {"spread": (SpreadRule(2, "host", DB), SpreadRule(1, "zone", DB, min_domains=4))},
        {"affinity": (term(),)},
        {"affinity": (term(selector=DB), term("host", DB))},
        {"anti_affinity": (term("host"),)},
        {"anti_affinity": (term(selector=DB),)},
        {"claims": ("data",), "exclusive_claims": ("data",)},
    ]
)
PODS = st.builds(
    lambda app, rules, ending: pod("p", app, terminating=ending, **rules),
    st.sampled_from(["web", "db"]),
    RULES,
    st.booleans(),
)
PLACED = st.lists(st.tuples(PODS, st.sampled_from([each.name for each in ALL])), max_size=6)


def verdicts(relations: Relations, pods: Iterable[PodInfo]) -> list[object]:
    return [relations.obstacle(each, where) for each in pods for where in ALL]


@given(there=PLACED, placed=PLACED, taken_back=PLACED, asked=st.lists(PODS, min_size=1, max_size=4))
def test_placing_a_pod_is_as_if_it_had_always_been_there(
    there: list[tuple[PodInfo, str]],
    placed: list[tuple[PodInfo, str]],
    taken_back: list[tuple[PodInfo, str]],
    asked: list[PodInfo],
) -> None:
    def hosts(pods: list[tuple[PodInfo, str]]) -> list[tuple[NodeInfo, list[PodInfo]]]:
        return [(each, [one for one, name in pods if name == each.name]) for each in ALL]

    relations = Relations(hosts(there), {})
    assert verdicts(relations, asked) == verdicts(Relations(hosts(there), {}), asked)
    for one, name in placed:
        relations.place(one, name)
        relations.obstacle(asked[0], A1)
    for one, name in taken_back:
        relations.place(one, name)
    relations.obstacle(asked[-1], B1)
    for one, name in reversed(taken_back):
        relations.unplace(one, name)
    fresh = Relations(hosts([*there, *placed]), {})
    assert verdicts(relations, asked) == verdicts(fresh, asked)
    for each in asked:
        if not relations.concerns(each):
            assert set(verdicts(fresh, [each])) == {None}
