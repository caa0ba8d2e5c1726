"""Pods and Nodes of a what-if: what the cluster would have filled in is filled in, what is said stays."""

from __future__ import annotations

import json

import pytest

from cdmo.kube.hypothetical import (
    COUNT_LABEL,
    PRODUCT_LABEL,
    Cards,
    Priorities,
    PriorityClass,
    in_namespace,
    node_of_file,
    pod_of_file,
)
from cdmo.model.snapshot import MigNodeView
from cdmo.simulation.cards import CARDS
from tests.builders import NOW, node
from tests.kube.files import asking, gpu_node, sketched, waiting
from tests.kube.objects import Json

NOBODY = Priorities({})


def raw(value: Json) -> bytes:
    return json.dumps(value).encode()


# --- priorities ---------------------------------------------------------------------------------------------------


def test_a_class_stands_for_its_value_and_no_class_for_the_default() -> None:
    priorities = Priorities({"high": PriorityClass(1000), "usual": PriorityClass(7, global_default=True)})
    assert (priorities.of("high"), priorities.of(None), priorities.of("")) == (1000, 7, 7)
    assert priorities.of("unheard-of") is None
    assert NOBODY.of(None) == 0


def test_of_several_defaults_the_lowest_counts() -> None:
    classes = {name: PriorityClass(value, global_default=True) for name, value in (("a", 9), ("b", -3), ("c", 4))}
    assert Priorities(classes).of(None) == -3


def test_every_cluster_has_the_two_classes_of_the_system() -> None:
    assert NOBODY.of("system-node-critical") == 2_000_001_000
    assert NOBODY.of("system-cluster-critical") == 2_000_000_000


# --- pods ---------------------------------------------------------------------------------------------------------


def test_a_sketched_pod_waits_is_new_and_requests_what_it_limits() -> None:
    bare = sketched("train")
    bare["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/mig-3g.40gb": 2, "cpu": "500m"}}
    found = pod_of_file(raw(bare), NOW, NOBODY)
    assert found.waits and not found.problem
    assert found.info.created == NOW
    assert dict(found.info.requests) == {"nvidia.com/mig-3g.40gb": 2, "cpu": 500}


def test_a_request_stands_where_a_limit_says_something_else() -> None:
    bare = sketched("train")
    bare["spec"]["containers"][0]["resources"] |= {"requests": {"cpu": "1"}, "limits": {"cpu": "4", "memory": "1Mi"}}
    assert dict(pod_of_file(raw(bare), NOW, NOBODY).info.requests) == {"cpu": 1_000, "memory": 2**20}


def test_a_pod_that_says_when_it_was_made_keeps_its_time() -> None:
    assert pod_of_file(raw(waiting("train")), NOW, NOBODY).info.created < NOW


@pytest.mark.parametrize(
    ("spec", "priority", "problem"),
    [
        ({}, 7, ""),
        ({"priorityClassName": "high"}, 1000, ""),
        ({"priorityClassName": "high", "priority": 3}, 3, ""),
        ({"priorityClassName": "gone"}, 0, "there is no PriorityClass gone; priority 0 counts"),
    ],
)
def test_a_pods_priority_is_its_own_or_that_of_its_class(spec: Json, priority: int, problem: str) -> None:
    priorities = Priorities({"high": PriorityClass(1000), "usual": PriorityClass(7, global_default=True)})
    found = pod_of_file(raw(sketched("train", **spec)), NOW, priorities)
    assert (found.info.priority, found.problem) == (priority, problem)


@pytest.mark.parametrize(
    ("condition", "waits"),
    [
        (None, True),
        ({"status": "False", "reason": "Unschedulable"}, True),
        ({"status": "False", "reason": "SchedulingGated"}, True),
        ({"status": "False", "reason": "SchedulerError"}, False),
        ({"status": "True", "reason": "Scheduled"}, True),
    ],
)
def test_a_pod_waits_unless_the_scheduler_met_an_error_of_its_own(condition: Json | None, waits: bool) -> None:
    bare = sketched("train")
    if condition is not None:
        bare["status"] = {"conditions": [{"type": "PodScheduled", **condition}]}
    assert pod_of_file(raw(bare), NOW, NOBODY).waits is waits


def test_a_pod_on_a_node_or_without_slices_does_not_wait() -> None:
    assert not pod_of_file(raw(sketched("train", nodeName="gpu-1")), NOW, NOBODY).waits
    plain = sketched("train")
    plain["spec"]["containers"] = [{"name": "main", "image": "registry.example/app"}]
    assert not pod_of_file(raw(plain), NOW, NOBODY).waits


def test_what_names_no_namespace_is_in_default_and_what_cannot_be_read_stays_as_it_is() -> None:
    bare = sketched("train")
    del bare["metadata"]["namespace"]
    assert json.loads(in_namespace(raw(bare)))["metadata"] == {"name": "train", "namespace": "default"}
    assert in_namespace(b'{"metadata":') == b'{"metadata":'


# --- nodes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        ([], True),
        ([{"type": "DiskPressure", "status": "False"}], True),
        ([{"type": "Ready", "status": "False"}], False),
        ([{"type": "Ready", "status": "Unknown"}], False),
        ([{"type": "Ready", "status": "True"}], True),
    ],
)
def test_a_node_is_ready_unless_it_says_otherwise(conditions: list[Json], ready: bool) -> None:
    bare = gpu_node()
    bare["status"]["conditions"] = conditions
    assert node_of_file(raw(bare)).ready is ready


def made_up(
    count: str = "2", product: str = "NVIDIA-H100-80GB-HBM3", allocatable: dict[str, int] | None = None
) -> MigNodeView | str:
    labels = {PRODUCT_LABEL: product, COUNT_LABEL: count}
    return Cards(CARDS).view(node("gpu-9", labels=labels, allocatable=allocatable).node, ())


def test_a_labelled_node_has_the_cards_that_its_labels_tell_of_with_nothing_cut() -> None:
    view = made_up()
    assert isinstance(view, MigNodeView)
    assert [each.product for each in view.models] == ["NVIDIA H100 80GB HBM3"]
    assert len({each.pci_bus_id for each in view.gpus}) == len(view.gpus) == 2
    assert not any(each.slices for each in view.gpus)
    assert (view.managed, view.alive, view.problem) == (True, True, "")


@pytest.mark.parametrize("count", ["", "0", "-1", "33", "two", "９", "00000001"])
def test_a_count_that_is_none_is_named(count: str) -> None:
    found = made_up(count)
    assert isinstance(found, str)
    assert f"{COUNT_LABEL} {count!r} is no number from 1 to 32" in found


def test_a_card_that_nobody_knows_is_named() -> None:
    found = made_up(product="ACME-9000")
    assert isinstance(found, str)
    assert f"{PRODUCT_LABEL} 'ACME-9000' is no card that CDMO knows" in found


def test_a_node_that_offers_slices_already_is_not_made_up() -> None:
    found = made_up(allocatable={"nvidia.com/mig-1g.10gb": 3})
    assert found == "it is labelled for CDMO, but there is no MigNode of this name; nothing is planned on it"


def test_a_pod_that_asks_for_text_is_no_pod() -> None:
    bare = sketched("train")
    bare["spec"]["containers"] = asking(count="many")
    with pytest.raises(ValueError, match="many"):
        pod_of_file(raw(bare), NOW, NOBODY)
