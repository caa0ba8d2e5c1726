"""Rules of a pod about other pods: topology spread and required affinity, with everything resolved.

What a rule takes from the pod itself (matchLabelKeys, the pod's own namespace) is written out when it is read, so
that equal rules of different pods are equal values.
"""

from __future__ import annotations

import msgspec

from cdmo.model.selectors import LabelSelector


class SpreadRule(msgspec.Struct, frozen=True, gc=False):
    """A topologySpreadConstraint with whenUnsatisfiable DoNotSchedule."""

    max_skew: int
    key: str  # the node label whose values are the domains
    selector: LabelSelector = None  # which pods of the same namespace count
    min_domains: int = 1  # with fewer domains the least count is taken as 0
    honor_affinity: bool = True  # domains of nodes alone that the pod's selector and node affinity match
    honor_taints: bool = False  # domains of nodes alone whose taints the pod tolerates


class PodTerm(msgspec.Struct, frozen=True, gc=False):
    """A required term of pod affinity or anti-affinity."""

    key: str  # the node label whose values are the domains
    selector: LabelSelector = None  # which pods are meant
    namespaces: tuple[str, ...] = ()  # ascending; the pod's own where the term names none
    namespace_selector: LabelSelector = None  # or namespaces with such labels
