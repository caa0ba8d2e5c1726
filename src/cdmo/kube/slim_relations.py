"""A Pod's rules about other pods, decoded and resolved: topology spread, affinity, anti-affinity."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from cdmo.kube.lenient import Int32, Lenient, NodeSelector, Selector, label_selector, shared
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.selectors import LabelSelector, Requirement


class PodAffinityTerm(Lenient, frozen=True):
    """A required term of pod affinity or anti-affinity."""

    label_selector: Selector | None = None
    namespaces: list[str] | None = None
    topology_key: str | None = None
    namespace_selector: Selector | None = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class _PodAffinity(Lenient, frozen=True):
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] | None = None


class _NodeAffinity(Lenient, frozen=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class Affinity(Lenient, frozen=True):
    """A pod's affinity, preferences left out."""

    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity | None = None
    pod_anti_affinity: _PodAffinity | None = None


class SpreadConstraint(Lenient, frozen=True):
    """A topologySpreadConstraint."""

    max_skew: Int32 = 1
    topology_key: str | None = None
    when_unsatisfiable: str | None = None
    label_selector: Selector | None = None
    min_domains: Int32 | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: list[str] | None = None


def node_terms_of(affinity: Affinity | None) -> NodeSelector | None:
    """The node selector of required node affinity, if there is one."""
    node_affinity = affinity.node_affinity if affinity else None
    return node_affinity.required_during_scheduling_ignored_during_execution if node_affinity else None


def pod_terms_of(
    affinity: Affinity | None, namespace: str, labels: Mapping[str, str]
) -> tuple[tuple[PodTerm, ...], tuple[PodTerm, ...]]:
    """Required terms of pod affinity and of pod anti-affinity."""
    if affinity is None:
        return (), ()
    both = (affinity.pod_affinity, affinity.pod_anti_affinity)
    wanted, unwanted = (part.required_during_scheduling_ignored_during_execution if part else None for part in both)
    return _terms(wanted, namespace, labels), _terms(unwanted, namespace, labels)


def spread_rules_of(
    constraints: Iterable[SpreadConstraint] | None, labels: Mapping[str, str]
) -> tuple[SpreadRule, ...]:
    """The constraints that keep a pod from a node; those that are only wishes are left out."""
    return tuple(
        shared(
            SpreadRule(
                max_skew=one.max_skew,
                key=sys.intern(one.topology_key or ""),
                # The scheduler reads these keys with the labels that the pod has now.
                selector=_with_own(label_selector(one.label_selector), one.match_label_keys, "In", labels),
                min_domains=1 if one.min_domains is None else one.min_domains,
                honor_affinity=one.node_affinity_policy != "Ignore",
                honor_taints=one.node_taints_policy == "Honor",
            )
        )
        for one in constraints or ()
        if one.when_unsatisfiable == "DoNotSchedule"
    )


def _terms(
    affinity_terms: Iterable[PodAffinityTerm] | None, namespace: str, labels: Mapping[str, str]
) -> tuple[PodTerm, ...]:
    return tuple(_term(one, namespace, labels) for one in affinity_terms or ())


def _term(term: PodAffinityTerm, namespace: str, labels: Mapping[str, str]) -> PodTerm:
    selector = label_selector(term.label_selector)
    # The API server writes these keys into the selector when the pod is created, and then alone: a pod from a
    # file, which no server has seen, lacks them. It refuses keys that the selector itself names.
    named = {each.key for each in selector or ()}
    for operator, keys in (("In", term.match_label_keys), ("NotIn", term.mismatch_label_keys)):
        selector = _with_own(selector, [key for key in keys or () if key not in named], operator, labels)
    own = not term.namespaces and term.namespace_selector is None
    return shared(
        PodTerm(
            key=sys.intern(term.topology_key or ""),
            selector=selector,
            namespaces=(namespace,) if own else tuple(sorted(map(sys.intern, term.namespaces or ()))),
            namespace_selector=label_selector(term.namespace_selector),
        )
    )


def _with_own(
    selector: LabelSelector, keys: Iterable[str] | None, operator: str, labels: Mapping[str, str]
) -> LabelSelector:
    """The selector, narrowed by the pod's own values of these labels; labels that it lacks narrow nothing."""
    if selector is None:
        return None
    own = (Requirement(key, operator, (labels[key],)) for key in keys or () if key in labels)
    return (*selector, *map(shared, own))
