"""How much is accepted when pods come one by one and nothing that runs may be moved, beside the rules of others."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor

import pytest

from benchmarks.conftest import StartPart
from benchmarks.planner.instances import MIX_NAMES, Online, arrivals, mix, slots_by_resource
from benchmarks.planner.online import blocking, luck, online
from benchmarks.planner.peers import RULES, Accepted
from benchmarks.planner.peers import online as by_rule
from cdmo.planner.placement import table_of
from tests.builders import card, resource
from tests.planner.carried_out import carry_out

CARD = "h100"
WORKLOAD = Online()
SEEDS = (1001, 1002)
FIGURES = ("pods", "slots", "creates")


@pytest.mark.timeout(600)
def test_pods_that_come_one_by_one(part: StartPart) -> None:
    measured = part("online")
    found: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    raw: list[tuple[float, float]] = []
    workloads = [(mix_name, seed) for mix_name in MIX_NAMES for seed in SEEDS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        for lucky, results in pool.map(served, *zip(*workloads, strict=True)):
            for name, result in results.items():
                shares = (result.pod_share - lucky[0], result.slot_share - lucky[1], result.creates_per_pod)
                found[name].append(shares)
            raw.append((results["CDMO"].pod_share, results["CDMO"].slot_share))
    for name, values in found.items():
        for place, key in enumerate(FIGURES):
            words = f"{name}, {key}" if key != "creates" else f"{name}, creates a pod"
            measured.figure(words, [each[place] for each in values], key=key if name == "CDMO" else "")
    measured.figure("CDMO, pods, luck not taken off", [pods for pods, _ in raw])
    measured.figure("CDMO, slots, luck not taken off", [slots for _, slots in raw])
    measured.note("seeds", SEEDS)
    measured.note("arrivals", WORKLOAD.arrivals)
    measured.finish()


def served(mix_name: str, seed: int) -> tuple[tuple[float, float], dict[str, Accepted]]:
    """How lucky a workload is, and what CDMO and every rule accept of it.

    Every plan of CDMO's is carried out on the simulated card.
    """
    workload = list(arrivals(CARD, mix_name, WORKLOAD, random.Random(f"online {seed} {mix_name}")))
    sizes = slots_by_resource([CARD])
    shares = {resource(name): share for name, share in mix(CARD, mix_name).items()}
    table = table_of(card(CARD))
    results = {"CDMO": online(CARD, WORKLOAD.gpus, workload, sizes, carry_out)}
    for rule in RULES:
        results[rule.name] = by_rule(rule, table, WORKLOAD.gpus, workload, shares, sizes)
    return luck(CARD, mix_name, workload, WORKLOAD), results


def test_the_pool_without_fragmentation_blocks_as_erlang_says() -> None:
    # Erlang's loss formula by its own recursion, for pods of one slot.
    loss = 1.0
    for servers in range(1, 101):
        loss = 90.0 * loss / (servers + 90.0 * loss)
    assert blocking(100, {1: 90.0})[1] == pytest.approx(loss)


def test_pods_of_one_size_are_as_pods_of_one_slot_in_a_smaller_pool() -> None:
    assert blocking(80, {8: 9.0})[8] == pytest.approx(blocking(10, {1: 9.0})[1])
