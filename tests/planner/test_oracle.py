"""The oracle against trying everything, on clusters small enough for that."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from cdmo.model.cluster import PodInfo
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.planner.placement import EMPTY, CardTable, Layout, table_of
from tests.builders import BROKEN, CARDS, IDLE, card, gpu_of, h100, key, node, pod, snapshot, written
from tests.planner.oracle import optimum, patterns

Cluster = tuple[tuple[tuple[CardTable, Layout], ...], ...]  # of each node its GPUs


def random_question(seed: int, *, most: int) -> Snapshot:
    """One or two nodes with one or two half-used cards each, and seven pods of up to `most` slices."""
    rng = random.Random(seed)
    views: list[MigNodeView] = []
    for number in range(rng.randint(1, 2)):
        cards = []
        for _ in range(rng.randint(1, 2)):
            name = rng.choice(CARDS)
            table = table_of(card(name))
            layout: Layout = EMPTY
            for _ in range(rng.randint(0, 4)):
                layout |= {rng.choice(sorted(table.addable(layout)))} if table.addable(layout) else EMPTY
            slices = {written(each, name): rng.choice((IDLE, IDLE, BROKEN, "ml/x")) for each in sorted(layout)}
            cards.append(gpu_of(name, slices))
        views.append(node(f"gpu-{number}", cards))
    names = sorted({profile.name for view in views for model in view.models for profile in model.profiles})
    pods = []
    for number in range(7):
        asks: dict[str, int] = {}
        for _ in range(rng.randint(1, most)):
            name = rng.choice(names)
            asks[name] = asks.get(name, 0) + 1
        pods.append(pod(f"p{number}", asks, priority=rng.randint(0, 1), created=rng.randint(0, 3)))
    return snapshot(views, pods)


def tried(question: Snapshot) -> list[str]:
    """Names of the accepted pods, by keeping every state that the accepted pods can leave behind."""
    queue = sorted(question.pending, key=lambda each: (-each.priority, each.created, each.key))
    states = {
        tuple(
            tuple(
                (table_of(view.models[gpu.model]), frozenset(e.placement for e in gpu.slices if e.state is not IDLE))
                for gpu in view.gpus
            )
            for view in question.nodes
        )
    }
    accepted = []
    for each in queue:
        after = {state for before in states for state in with_pod(before, each)}
        if after:
            accepted.append(each.key.name)
            states = after
    return accepted


def with_pod(cluster: Cluster, asks: PodInfo) -> Iterator[Cluster]:
    """Every state of the cluster with this pod on one of its nodes."""
    wanted = [resource for resource, count in asks.demand for _ in range(count)]
    for place, gpus in enumerate(cluster):
        for filled in with_slices(gpus, wanted):
            yield (*cluster[:place], filled, *cluster[place + 1 :])


def with_slices(
    gpus: tuple[tuple[CardTable, Layout], ...], wanted: Sequence[str]
) -> Iterator[tuple[tuple[CardTable, Layout], ...]]:
    """Every state of a node with these slices on it."""
    if not wanted:
        yield gpus
        return
    for place, (table, layout) in enumerate(gpus):
        for each in table.addable(layout):
            if table.resource_at(each) == wanted[0]:
                after = (*gpus[:place], (table, layout | {each}), *gpus[place + 1 :])
                yield from with_slices(after, wanted[1:])


@pytest.mark.parametrize("seed", range(60))
def test_pods_of_one_slice_are_accepted_as_by_trying_everything(seed: int) -> None:
    question = random_question(seed, most=1)
    assert [each.name for each in optimum(question).accepted] == tried(question)


@pytest.mark.parametrize("seed", range(60))
def test_pods_of_several_slices_on_one_node_are_accepted_as_by_trying_everything(seed: int) -> None:
    question = random_question(1000 + seed, most=3)
    assert [each.name for each in optimum(question).accepted] == tried(question)


def test_an_older_pod_is_never_refused_for_many_younger_ones() -> None:
    pods = [pod("old", "7g.80gb", created=0), *(pod(f"young-{number}", "1g.10gb", created=1) for number in range(7))]
    answer = optimum(snapshot([node("gpu-1", [h100()])], pods))
    assert answer.accepted == (key("old"),)
    assert len(answer.refused) == 7


def test_priority_comes_before_age() -> None:
    pods = [pod("old", "7g.80gb", created=0), pod("urgent", "4g.40gb", created=1, priority=10)]
    assert optimum(snapshot([node("gpu-1", [h100()])], pods)).accepted == (key("urgent"),)


def test_a_pod_is_refused_without_those_behind_it_that_ask_for_less() -> None:
    pods = [pod("big", "7g.80gb", created=0), pod("bigger", "7g.80gb", created=1), pod("small", "1g.10gb", created=2)]
    nodes = [node("gpu-1", [h100(), h100({"1g.10gb@0": "ml/x"})])]
    assert optimum(snapshot(nodes, pods)).accepted == (key("big"), key("small"))


def test_a_card_that_takes_no_part_is_given_to_nobody() -> None:
    nodes = [node("gpu-1", [h100(problem="lost")]), node("gpu-2", [h100()], alive=False)]
    assert optimum(snapshot(nodes, [pod("a", "1g.10gb")])).accepted == ()


def test_an_empty_h100_has_28_maximal_multisets_without_media_extensions() -> None:
    table = table_of(card("h100"))
    names = tuple(sorted(each.resource for each in table.model.profiles if not each.name.endswith("+me")))
    complete = set(patterns(table, EMPTY, names))
    assert len(complete) == 28
    for one in complete:
        assert not any(one != other and all(a <= b for a, b in zip(one, other, strict=True)) for other in complete)
    assert (0, 7) in patterns(table, EMPTY, ("nvidia.com/mig-3g.40gb", "nvidia.com/mig-1g.10gb"))
