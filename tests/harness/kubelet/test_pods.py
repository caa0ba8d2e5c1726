"""Reading pods, adding up what they ask for, and judging whether they fit."""

from __future__ import annotations

import pytest
from cdmo_harness.kubelet.pods import demand, parse
from cdmo_harness.kubelet.predicates import rejection
from cdmo_harness.kubelet.quantity import milli, number, whole
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.kubelet.builders import ONE_G, container, pod


@pytest.mark.parametrize(
    ("text", "value"), [("64", 64), ("512Gi", 512 << 30), ("1500m", 2), ("2e3", 2000), ("3k", 3000), ("0", 0)]
)
def test_quantities_round_up_to_whole_numbers(text: str, value: int) -> None:
    assert whole(text) == value


def test_cpu_is_counted_in_thousandths() -> None:
    assert (milli("1500m"), milli("2")) == (1500, 2000)


@pytest.mark.parametrize("text", ["", "abc", "1Zi", "NaN", "Infinity"])
def test_text_that_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        number(text)


@given(st.lists(st.integers(0, 9), max_size=5), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_without_sidecars_demand_is_the_larger_of_one_init_step_and_the_sum(init: list[int], main: list[int]) -> None:
    built = pod(
        *(container(f"c{n}", one_g=count) for n, count in enumerate(main)),
        init=[container(f"i{n}", one_g=count) for n, count in enumerate(init)],
    )
    assert demand(built)[ONE_G] == max([sum(main), *init])


def test_a_sidecar_counts_with_everything_that_comes_after_it() -> None:
    first, sidecar, last = container("a", one_g=5), container("b", sidecar=True, one_g=1), container("c", one_g=5)
    assert demand(pod(container(one_g=2), init=[first, sidecar, last]))[ONE_G] == 6


def test_annotations_say_how_long_a_pod_runs_and_how_it_ends() -> None:
    document = {
        "metadata": {
            "uid": "u",
            "namespace": "ns",
            "name": "p",
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 30,
            "annotations": {
                "cdmo-harness/run-seconds": "1.5",
                "cdmo-harness/exit-code": "3",
                "cdmo-harness/terminate-seconds": "2",
            },
        },
        "spec": {"containers": [{"name": "c", "resources": {"limits": {ONE_G: "1"}, "requests": {ONE_G: "1"}}}]},
        "status": {"phase": "Running"},
    }
    read = parse(document)
    assert (read.run_seconds, read.exit_code, read.terminate_seconds) == (1.5, 3, 2.0)
    assert (read.deletion_grace_seconds, read.terminal) == (30, False)
    assert read.containers[0].limits == {ONE_G: 1}


def test_a_pod_without_annotations_runs_until_it_is_deleted() -> None:
    read = parse({"metadata": {"uid": "u", "namespace": "n", "name": "p"}, "spec": {"containers": []}})
    assert (read.run_seconds, read.deletion_grace_seconds) == (None, None)


def test_too_little_cpu_is_out_of_cpu_with_the_three_numbers() -> None:
    running, fresh = pod(container(cpu=3000)), pod(container(cpu=2000))
    verdict = rejection(fresh, [running], {"cpu": 4000, "pods": 110})
    assert verdict is not None
    assert verdict.reason == "OutOfcpu"
    assert verdict.message == "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"


def test_too_many_pods_is_out_of_pods() -> None:
    verdict = rejection(pod(), [pod()], {"pods": 1})
    assert verdict is not None
    assert verdict.reason == "OutOfpods"


def test_an_extended_resource_the_node_lacks_is_left_out_but_zero_is_refused() -> None:
    assert rejection(pod(one_g=1), [], {"pods": 110}) is None
    verdict = rejection(pod(one_g=1), [], {"pods": 110, ONE_G: 0})
    assert verdict is not None
    assert verdict.reason == f"OutOf{ONE_G}"
