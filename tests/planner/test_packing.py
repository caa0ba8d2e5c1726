"""Long queues: the longest head that fits together, then those behind of whom some still fit."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner import in_order
from tests.builders import BUS, IDLE, NOW, a30, h100, node, pod, rtx_pro_6000, snapshot
from tests.planner.expect import planned
from tests.planner.oracle import optimum

PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
STARTS = (None, {"1g.10gb@1": "ml/x"}, {"2g.20gb@4": "ml/x"}, {"3g.40gb@0": "ml/x"}, {"1g.20gb@6": IDLE})


def queue(seed: int, pods: int) -> Snapshot:
    """Twelve H100 on three nodes in different states, and more pods than fit on them, in three priorities."""
    random_of = random.Random(seed)
    nodes = [node(f"gpu-{number}", [h100(random_of.choice(STARTS)) for _ in range(4)]) for number in range(3)]
    return snapshot(
        nodes,
        [
            pod(
                f"p{number:03}",
                random_of.choice(PROFILES),
                created=NOW - 200 + number,
                priority=random_of.choice((0, 0, 7)),
            )
            for number in range(pods)
        ],
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_long_queue_is_served_as_the_exact_optimum_serves_it(seed: int) -> None:
    question = queue(seed, 45)
    best = set(optimum(question).accepted)
    assert {each.pod for each in planned(question, Policy(reserve_after=1e9)).placements} == best


@pytest.mark.parametrize("seed", range(4))
def test_pods_that_need_different_amounts_of_cpu_are_packed_as_well(seed: int) -> None:
    question = queue(seed, 45)
    different = tuple(
        replace(each, requests={**each.requests, "cpu": 500 + number}) for number, each in enumerate(question.pending)
    )
    question = replace(question, pending=different)
    best = set(optimum(question).accepted)
    assert {each.pod for each in planned(question, Policy(reserve_after=1e9)).placements} == best


def test_nobody_is_refused_for_somebody_behind() -> None:
    question = queue(3, 60)
    given = {each.pod for each in planned(question, Policy(reserve_after=1e9)).placements}
    pods = in_order(question.pending, Policy())
    first = next(number for number, each in enumerate(pods) if each.key not in given)
    alone = snapshot(question.nodes, pods[: first + 1])
    assert pods[first].key not in optimum(alone).accepted


def test_a_refused_pod_speaks_for_its_profile_and_for_no_other() -> None:
    pods = [pod(f"big-{number}", "7g.80gb", created=NOW - 100 + number) for number in range(20)]
    pods += [pod(f"small-{number}", "1g.10gb", created=NOW - 50 + number) for number in range(3)]
    nodes = [node("gpu-1", [*[h100()] * 3, h100({"4g.40gb@0": "ml/x", "1g.20gb@6": "ml/y"})])]
    given = [each.pod.name for each in planned(snapshot(nodes, pods), Policy(reserve_after=1e9)).placements]
    assert given == ["big-0", "big-1", "big-2", "small-0", "small-1"]


def test_cards_of_different_models_are_packed_each_by_itself() -> None:
    pods = [pod(f"a30-{number:02}", "2g.12gb", created=NOW - 100 + number) for number in range(12)]
    pods += [pod(f"h100-{number:02}", "3g.40gb", created=NOW - 80 + number) for number in range(12)]
    pods += [pod(f"rtx-{number:02}", "2g.48gb", created=NOW - 60 + number) for number in range(12)]
    nodes = [node("gpu-1", [h100(), h100(), a30(), a30(), rtx_pro_6000(), rtx_pro_6000()])]
    given = [each.pod.name[:-3] for each in planned(snapshot(nodes, pods), Policy(reserve_after=1e9)).placements]
    assert (given.count("a30"), given.count("h100"), given.count("rtx")) == (4, 4, 4)


def test_a_long_queue_keeps_out_of_the_window_of_a_pod_ahead_that_has_waited_for_long() -> None:
    old = pod("big", "7g.80gb", created=NOW - 1000)
    young = [pod(f"small-{number:02}", "1g.10gb", created=NOW - 50 + number) for number in range(30)]
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"}), h100({"4g.40gb@0": "ml/y"})])]
    answer = planned(snapshot(nodes, [*young, old]))
    (window,) = answer.windows
    assert (window.pod.name, window.places[0][0]) == ("big", BUS[0])
    assert {each.slices[0].gpu for each in answer.placements} == {BUS[1]}
    assert len(answer.placements) == 3


def test_a_long_queue_ahead_of_a_pod_that_has_waited_for_long_is_served_before_it() -> None:
    old = pod("big", "7g.80gb", created=NOW - 1000)
    urgent = [pod(f"urgent-{number:02}", "1g.10gb", created=NOW - 50, priority=9) for number in range(9)]
    late = [pod(f"late-{number:02}", "1g.10gb", created=NOW - 50) for number in range(9)]
    nodes = [node("gpu-1", [h100({"1g.10gb@0": "ml/x"}), h100({"4g.40gb@0": "ml/y"})])]
    answer = planned(snapshot(nodes, [*late, *urgent, old]))
    given = {each.pod.name for each in answer.placements}
    assert given == {each.key.name for each in urgent}
    assert [each.pod.name for each in answer.windows] == ["big"]
