"""Rules about other pods, from the JSON of the API to values with everything resolved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdmo.kube.slim import pod_info
from cdmo.model.cluster import PodInfo
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import Requirement
from tests.kube.objects import pod_json

WEB = (Requirement("app", "In", ("web",)),)
LABELS = {"app": "web", "hash": "v1"}


def read(**spec: Any) -> PodInfo:
    """A pod in namespace ml with LABELS and this in its spec."""
    return pod_info(json.dumps(pod_json("a", labels=LABELS, **spec)).encode())


def spread(**parts: Any) -> tuple[SpreadRule, ...]:
    """One constraint over zones among app=web, with these parts besides."""
    rule = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **parts,
    }
    return read(topologySpreadConstraints=[rule]).spread


def affinity(**parts: Any) -> tuple[PodTerm, ...]:
    """One required term of affinity over zones among app=web, with these parts besides."""
    return terms("podAffinity", **parts).affinity


def terms(kind: str, **parts: Any) -> PodInfo:
    """A pod with one required term of this kind."""
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}, **parts}
    return read(affinity={kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})


def test_a_spread_rule_has_the_defaults_of_the_api() -> None:
    assert spread() == (SpreadRule(1, "zone", WEB),)
    assert spread(labelSelector=None) == (SpreadRule(1, "zone", None),)


def test_every_part_of_a_spread_rule_is_read() -> None:
    found = spread(maxSkew=3, minDomains=2, nodeAffinityPolicy="Ignore", nodeTaintsPolicy="Honor")
    assert found == (SpreadRule(3, "zone", WEB, min_domains=2, honor_affinity=False, honor_taints=True),)


def test_a_spread_rule_that_is_only_a_wish_is_left_out() -> None:
    assert spread(whenUnsatisfiable="ScheduleAnyway") == ()


def test_a_pods_own_labels_narrow_its_spread() -> None:
    own = Requirement("hash", "In", ("v1",))
    assert spread(matchLabelKeys=["hash", "absent"])[0].selector == (*WEB, own)
    assert spread(matchLabelKeys=["hash"], labelSelector={})[0].selector == (own,)
    assert spread(matchLabelKeys=["hash"], labelSelector=None)[0].selector is None


def test_a_term_means_the_pods_own_namespace_unless_it_names_others() -> None:
    assert affinity() == (PodTerm("zone", WEB, ("ml",)),)
    assert affinity(namespaces=["b", "a"]) == (PodTerm("zone", WEB, ("a", "b")),)
    assert affinity(namespaceSelector={}) == (PodTerm("zone", WEB, (), ()),)
    team = (Requirement("team", "In", ("x",)),)
    both = affinity(namespaces=["a"], namespaceSelector={"matchLabels": {"team": "x"}})
    assert both == (PodTerm("zone", WEB, ("a",), team),)


@pytest.mark.parametrize(("field", "operator"), [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")])
def test_label_keys_of_a_term_become_requirements_once(field: str, operator: str) -> None:
    keys: Any = {field: ["hash", "absent"]}
    own = Requirement("hash", operator, ("v1",))
    assert affinity(**keys)[0].selector == (*WEB, own)
    # So it looks once the API server has written the key into the selector, whatever the pod's label says by now.
    written = {"matchExpressions": [{"key": "hash", "operator": operator, "values": ["v0"]}]}
    read_back = affinity(labelSelector=written, **keys)[0].selector
    assert read_back == (Requirement("hash", operator, ("v0",)),)


def test_anti_affinity_and_affinity_are_told_apart() -> None:
    found = terms("podAntiAffinity")
    assert (found.affinity, found.anti_affinity) == ((), (PodTerm("zone", WEB, ("ml",)),))
    only_wishes: Any = {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
        "podAffinity": None,
    }
    found = read(affinity=only_wishes)
    assert (found.affinity, found.anti_affinity) == ((), ())


def test_equal_rules_of_different_pods_are_one_object() -> None:
    assert spread()[0] is spread()[0]
    assert affinity()[0] is affinity()[0]
