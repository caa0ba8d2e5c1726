"""Pods, taints and tolerations, judged as the scheduler judges them."""

from __future__ import annotations

import pytest

from cdmo.model.cluster import Taint, Toleration
from tests.builders import pod

GPU = Taint("nvidia.com/gpu", "present", "NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        (Toleration("nvidia.com/gpu", "Equal", "present"), True),
        (Toleration("nvidia.com/gpu", "Equal", "other"), False),
        (Toleration("nvidia.com/gpu", "Exists"), True),
        (Toleration("other", "Exists"), False),
        (Toleration(operator="Exists"), True),
        (Toleration(operator="Exists", effect="NoExecute"), False),
        (Toleration("nvidia.com/gpu", "Exists", effect="NoSchedule"), True),
        (Toleration("nvidia.com/gpu", "Exists", effect="PreferNoSchedule"), False),
        (Toleration(), False),
    ],
)
def test_a_toleration_covers_a_taint_by_effect_key_and_value(toleration: Toleration, tolerates: bool) -> None:
    assert toleration.tolerates(GPU) is tolerates


def test_a_pods_demand_is_its_mig_slices_alone() -> None:
    asking = pod("train", {"3g.40gb": 1, "1g.10gb": 2}, requests={"nvidia.com/gpu": 1})
    assert asking.demand == (("nvidia.com/mig-1g.10gb", 2), ("nvidia.com/mig-3g.40gb", 1))
    assert pod("web").demand == ()


@pytest.mark.parametrize(
    ("phase", "finished"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_is_finished_when_its_containers_are_over_for_good(phase: str, finished: bool) -> None:
    assert pod("train", phase=phase).finished is finished
