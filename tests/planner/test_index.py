"""GPUs in buckets: what a planner remembers of nodes and kinds of pods never shows in its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cdmo.model.cluster import PodInfo
from cdmo.model.plan import Plan
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.planner import Planner, plan
from tests.builders import IDLE, a30, h100, node, pod, snapshot
from tests.planner.expect import POLICY, places, sound


class Remembering:
    """One planner, whose every answer is compared with that of a new one."""

    def __init__(self) -> None:
        self._planner = Planner()

    def plan(self, nodes: Sequence[MigNodeView], pods: Sequence[PodInfo] = ()) -> Plan:
        question: Snapshot = snapshot(nodes, pods)
        answer = self._planner.plan(question, POLICY)
        assert answer == plan(question, POLICY)
        sound(question, answer)
        return answer


def numbered(count: int) -> list[MigNodeView]:
    """Nodes in racks of their own, with one H100 each."""
    return [node(f"gpu-{number:03}", [h100()], labels={"rack": f"r{number}"}) for number in range(count)]


def test_of_equal_gpus_the_first_by_the_name_of_its_node_is_taken_whatever_the_order_of_nodes() -> None:
    nodes = numbered(5)
    answer = Remembering().plan([nodes[3], nodes[1], nodes[4], nodes[2]], [pod("train", "7g.80gb")])
    assert places(answer, "train") == ["gpu-001/0 7g.80gb@0 create"]


def test_kinds_of_pods_that_come_later_find_their_nodes_and_the_others_keep_theirs() -> None:
    remembering, nodes = Remembering(), numbered(4)
    remembering.plan(nodes, [pod("any", "7g.80gb")])
    for number in (2, 0, 3):
        there = pod("there", "7g.80gb", selector={"rack": f"r{number}"})
        answer = remembering.plan(nodes, [pod("any", "7g.80gb"), there])
        assert places(answer, "there") == [f"gpu-00{number}/0 7g.80gb@0 create"]
    assert places(remembering.plan(nodes, [pod("any", "7g.80gb")]), "any") == ["gpu-000/0 7g.80gb@0 create"]


def test_a_node_whose_labels_change_serves_other_pods() -> None:
    remembering, nodes = Remembering(), numbered(2)
    picky = pod("picky", "1g.10gb", selector={"rack": "r7"})
    assert remembering.plan(nodes, [picky]).placements == ()
    moved = node("gpu-001", [h100()], labels={"rack": "r7"})
    assert places(remembering.plan([nodes[0], moved], [picky]), "picky") == ["gpu-001/0 1g.10gb@6 create"]
    assert remembering.plan(nodes, [picky]).placements == ()


def test_more_kinds_of_pods_than_are_remembered_are_served_all_the_same() -> None:
    remembering, nodes = Remembering(), numbered(3)
    for first in range(0, 600, 200):
        pods = [pod(f"p{number}", "1g.10gb", selector={"rack": f"r{number}"}) for number in range(first, first + 200)]
        answer = remembering.plan(nodes, [*pods, pod("any", "1g.10gb")])
        served = [each for each in pods if first == 0 and each.key.name in ("p0", "p1", "p2")]
        assert len(answer.placements) == len(served) + 1


def test_a_gpu_whose_view_was_replaced_again_and_again_is_one_gpu() -> None:
    remembering = Remembering()
    nodes = [node("gpu-1", [h100(), h100()]), node("gpu-2", [h100()])]
    pods = [pod(name, "7g.80gb") for name in ("a", "b", "c", "d")]
    for number in range(6):
        nodes[number % 2] = replace(nodes[number % 2])
        answer = remembering.plan(nodes, pods)
        assert [each.pod.name for each in answer.placements] == ["a", "b", "c"]


def test_a_node_that_goes_and_comes_back_is_found_again() -> None:
    remembering, nodes = Remembering(), numbered(2)
    train = [pod("train", "7g.80gb")]
    assert places(remembering.plan(nodes, train), "train") == ["gpu-000/0 7g.80gb@0 create"]
    assert places(remembering.plan(nodes[1:], train), "train") == ["gpu-001/0 7g.80gb@0 create"]
    assert remembering.plan([], train).placements == ()
    assert places(remembering.plan(nodes, train), "train") == ["gpu-000/0 7g.80gb@0 create"]


def test_a_node_that_falls_ill_or_is_given_up_takes_no_part_until_it_is_back() -> None:
    remembering, (first, second) = Remembering(), numbered(2)
    train = [pod("train", "7g.80gb")]
    for odd in (replace(first, alive=False), replace(first, managed=False), replace(first, problem="stuck")):
        assert places(remembering.plan([odd, second], train), "train") == ["gpu-001/0 7g.80gb@0 create"]
        assert places(remembering.plan([first, second], train), "train") == ["gpu-000/0 7g.80gb@0 create"]


def test_an_idle_slice_that_comes_or_goes_is_seen() -> None:
    remembering, (first, second) = Remembering(), numbered(2)
    cut = node("gpu-001", [h100({"3g.40gb@4": IDLE})], labels={"rack": "r1"})
    for there, expected in ((cut, "gpu-001/0 3g.40gb@4 reuse"), (second, "gpu-000/0 3g.40gb@4 create")) * 2:
        assert places(remembering.plan([first, there], [pod("train", "3g.40gb")]), "train") == [expected]


def test_slices_spoken_for_that_come_and_go_are_seen() -> None:
    remembering, (first, _) = Remembering(), numbered(2)
    idle = node("gpu-000", [h100({"7g.80gb@0": IDLE})])
    taken = replace(idle, pods=(pod("just-bound", "7g.80gb", on="gpu-000", phase="Pending"),))
    train = [pod("train", "7g.80gb")]
    for there, expected in ((idle, 1), (taken, 0), (idle, 1), (first, 1)):
        assert len(remembering.plan([there], train).placements) == expected


def test_cards_of_another_model_under_a_known_name_are_seen() -> None:
    remembering = Remembering()
    for card in (h100(), a30(), h100()):
        answer = remembering.plan([node("gpu-1", [card])], [pod("small", "1g.6gb"), pod("other", "1g.10gb")])
        assert len(answer.placements) == 1
