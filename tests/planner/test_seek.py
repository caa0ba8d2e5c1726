"""One pod's place: the cheapest of all that it may have, whatever else it needs of a node."""

from __future__ import annotations

from cdmo.model.cluster import HostPort
from tests.builders import IDLE, h100, node, pod, snapshot
from tests.planner.expect import assignment, places, planned, waits

PORT = (HostPort(8080),)


def test_nodes_short_of_cpu_are_passed_over() -> None:
    nodes = [
        node("gpu-1", [h100({"1g.10gb@6": IDLE})], allocatable={"cpu": 900}),
        node("gpu-2", [h100({"1g.10gb@6": IDLE})], allocatable={"memory": 100}),
        node("gpu-3", [h100({"1g.10gb@6": IDLE})], allocatable={"pods": 0}),
        node("gpu-4", [h100()]),
    ]
    assert places(planned(snapshot(nodes, [pod("train", "1g.10gb")])), "train") == ["gpu-4/0 1g.10gb@6 create"]


def test_a_node_that_is_short_of_cpu_for_one_pod_serves_another() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@6": IDLE})], allocatable={"cpu": 900})]
    pods = [pod("a", "1g.10gb"), pod("thrifty", "1g.10gb", requests={"cpu": 100})]
    answer = planned(snapshot(nodes, pods))
    assert places(answer, "thrifty") == ["gpu-1/0 1g.10gb@6 reuse"]
    assert waits(answer, "a")[1].startswith("only node gpu-1 could hold it, but the pod cannot run there: ")


def test_cpu_that_this_plan_gave_away_is_gone_and_the_next_node_takes_over() -> None:
    nodes = [node(f"gpu-{number}", [h100()], allocatable={"cpu": 2_500}) for number in (1, 2, 3)]
    pods = [pod(f"p{number}", "1g.10gb") for number in range(7)]
    answer = planned(snapshot(nodes, pods))
    assert [each.node for each in answer.placements] == ["gpu-1", "gpu-1", "gpu-2", "gpu-2", "gpu-3", "gpu-3"]
    assert waits(answer, "p6")[1] == "best is node gpu-1: the pod asks for 1000m of cpu, 500m of cpu is left there"


def test_pods_that_share_a_host_port_go_to_different_nodes() -> None:
    nodes = [node("gpu-1", [h100()]), node("gpu-2", [h100()])]
    pods = [pod(name, "1g.10gb", host_ports=PORT) for name in ("a", "b", "c")]
    answer = planned(snapshot(nodes, pods))
    assert {assignment(answer, "a").node, assignment(answer, "b").node} == {"gpu-1", "gpu-2"}
    assert waits(answer, "c")[1] == "best is node gpu-1: port 8080/TCP of it is taken"


def test_a_host_port_of_a_bound_pod_is_taken_on_its_address_and_for_its_protocol_alone() -> None:
    bound = [pod("web", on="gpu-1", host_ports=(HostPort(8080, "TCP", "10.0.0.1"),))]
    pods = [
        pod("everywhere", "1g.10gb", host_ports=PORT),
        pod("elsewhere", "1g.10gb", host_ports=(HostPort(8080, "TCP", "10.0.0.2"),)),
        pod("datagrams", "1g.10gb", host_ports=(HostPort(8080, "UDP"),)),
    ]
    answer = planned(snapshot([node("gpu-1", [h100()])], pods, bound))
    assert {each.pod.name for each in answer.placements} == {"elsewhere", "datagrams"}


def test_several_slices_pass_over_nodes_that_lack_something_too() -> None:
    nodes = [node("gpu-1", [h100(), h100()], allocatable={"cpu": 900}), node("gpu-2", [h100(), h100()])]
    answer = planned(snapshot(nodes, [pod("train", {"4g.40gb": 2})]))
    assert assignment(answer, "train").node == "gpu-2"


def test_a_node_on_which_slices_are_spoken_for_is_compared_with_the_others() -> None:
    bound = [pod("just-bound", "1g.10gb", on="gpu-1", phase="Pending")]
    spare = node("gpu-1", [h100({"1g.10gb@5": IDLE, "1g.10gb@6": IDLE})])
    other = node("gpu-2", [h100()])
    answer = planned(snapshot([spare, other], [pod("a", "1g.10gb"), pod("b", "1g.10gb")], bound))
    assert places(answer, "a")[0].startswith("gpu-1/0 1g.10gb@") and places(answer, "a")[0].endswith("reuse")
    assert places(answer, "b")[0].endswith("create")


def test_where_a_pod_was_tried_in_vain_it_is_not_tried_again() -> None:
    nodes = [node("gpu-1", [h100({"1g.10gb@6": IDLE})]), node("gpu-2", [h100()])]
    pods = [pod("a", "1g.10gb"), pod("b", {"1g.10gb": 2})]
    answer = planned(snapshot(nodes, pods, avoid=[("a", "gpu-1"), ("b", "gpu-1")]))
    assert {each.node for each in answer.placements} == {"gpu-2"}


def test_a_single_slice_may_lie_on_any_gpu_of_a_node_with_many() -> None:
    full = h100({"7g.80gb@0": "ml/x"})
    nodes = [node("gpu-1", [full] * 7 + [h100()])]
    assert places(planned(snapshot(nodes, [pod("train", "7g.80gb")])), "train") == ["gpu-1/7 7g.80gb@0 create"]
