"""How much of the exact lexicographic optimum a batch reaches, card by card; what one pass of others reaches."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from benchmarks.conftest import StartPart
from benchmarks.planner.instances import MIX_NAMES, fragmented, mix, slots_by_resource
from benchmarks.planner.peers import RULES, batch
from cdmo.model.policy import Policy
from cdmo.planner import plan
from cdmo.planner.check import violations
from tests.builders import resource
from tests.planner.carried_out import carry_out
from tests.planner.oracle import optimum

CLUSTERS = {
    "H100": ("h100",) * 25,
    "A30": ("a30",) * 25,
    "RTX PRO 6000": ("rtx_pro_6000",) * 25,
    "mixed": ("h100",) * 9 + ("a30",) * 8 + ("rtx_pro_6000",) * 8,
    "H100, 4,000 GPUs": ("h100",) * 500,
}
SEEDS = dict.fromkeys(CLUSTERS, (1001, 1002, 1003, 1004)) | {"H100, 4,000 GPUs": (1001,)}


@pytest.mark.timeout(300)
def test_a_batch_reaches_nearly_all_of_the_optimum(part: StartPart) -> None:
    measured = part("batch")
    shares: list[float] = []
    peers: defaultdict[str, list[float]] = defaultdict(list)
    for name, cards in CLUSTERS.items():
        of_cluster = [one(cards, mix_name, seed, peers) for mix_name in MIX_NAMES for seed in SEEDS[name]]
        measured.figure(f"{name}, mean", of_cluster, key="mean")
        measured.figure(f"{name}, worst", of_cluster, key="worst", of=min)
        shares += of_cluster
    measured.figure("all, mean", shares, key="mean")
    for rule, values in peers.items():
        measured.figure(f"{rule}, one pass, mean", values)
        measured.figure(f"{rule}, one pass, worst", values, of=min)
    measured.note("instances", len(shares))
    measured.note("seeds", sorted({seed for each in SEEDS.values() for seed in each}))
    measured.finish()


def one(cards: tuple[str, ...], mix_name: str, seed: int, peers: defaultdict[str, list[float]]) -> float:
    """The share of the optimum's slots that the plan reaches; the plan is legal, and the cards carry it out.

    On every second instance the slices that left are still cut, and idle.
    """
    rng = random.Random(f"batch {seed} {mix_name} {cards[0]} {len(cards)}")
    question = fragmented(cards, mix_name, rng, leftovers=seed % 2 == 1)
    answer = plan(question, Policy())
    assert violations(question, answer) == ()
    carry_out(question, answer)
    sizes = slots_by_resource(cards)
    slots = {pod.key.name: sizes[pod.demand[0][0]] for pod in question.pending}
    best = sum(slots[each.name] for each in optimum(question).accepted)
    weights = [{resource(name): share for name, share in mix(card, mix_name).items()} for card in sorted(set(cards))]
    popular = {name: share for each in weights for name, share in each.items()}
    for rule in RULES[:-1]:
        peers[rule.name].append(sum(slots[name] for name in batch(rule, question, popular)) / best)
    return sum(slots[each.pod.name] for each in answer.placements) / best


def test_the_mixes_are_the_published_ones() -> None:
    assert mix("h100", "skew-big") == pytest.approx(
        {"1g.10gb": 0.05, "1g.20gb": 0.1, "2g.20gb": 0.1, "3g.40gb": 0.2, "4g.40gb": 0.25, "7g.80gb": 0.3}
    )
    assert list(mix("h100", "uniform").values()) == pytest.approx([1 / 6] * 6)
    assert mix("h100", "classic") == pytest.approx(
        {"1g.10gb": 0.3, "2g.20gb": 0.25, "3g.40gb": 0.25, "4g.40gb": 0.1, "7g.80gb": 0.1}
    )
