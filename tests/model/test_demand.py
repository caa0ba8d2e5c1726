"""Requests of a pod, counted as the scheduler counts them."""

from __future__ import annotations

from cdmo.model.demand import ContainerAsk, mig_demand, pod_requests

SLICE = "nvidia.com/mig-1g.10gb"


def ask(count: int, *, sidecar: bool = False) -> ContainerAsk:
    return ContainerAsk({SLICE: count}, sidecar=sidecar)


def test_app_containers_run_together_and_add_up() -> None:
    assert pod_requests([ask(1), ask(2), ContainerAsk({"cpu": 500})]) == {SLICE: 3, "cpu": 500}


def test_init_containers_run_one_after_the_other_and_the_largest_counts() -> None:
    assert pod_requests([ask(1)], [ask(2), ask(3)]) == {SLICE: 3}
    assert pod_requests([ask(4)], [ask(2), ask(3)]) == {SLICE: 4}


def test_a_sidecar_runs_beside_all_that_starts_after_it() -> None:
    assert pod_requests([ask(1)], [ask(1, sidecar=True)]) == {SLICE: 2}
    assert pod_requests([ask(1)], [ask(1, sidecar=True), ask(3)]) == {SLICE: 4}
    assert pod_requests([ask(1)], [ask(3), ask(1, sidecar=True)]) == {SLICE: 3}
    assert pod_requests([], [ask(1, sidecar=True), ask(1, sidecar=True)]) == {SLICE: 2}


def test_each_resource_is_counted_by_itself() -> None:
    app = [ContainerAsk({SLICE: 1, "cpu": 100})]
    init = [ContainerAsk({"cpu": 900})]
    assert pod_requests(app, init) == {SLICE: 1, "cpu": 900}


def test_nothing_asked_is_nothing_listed() -> None:
    assert pod_requests([]) == {}
    assert pod_requests([ask(0)]) == {}


def test_the_mig_part_is_ascending_and_without_zeros() -> None:
    requests = {"nvidia.com/mig-3g.40gb": 1, "cpu": 5, SLICE: 2, "nvidia.com/mig-2g.20gb": 0, "nvidia.com/gpu": 1}
    assert mig_demand(requests) == ((SLICE, 2), ("nvidia.com/mig-3g.40gb", 1))
