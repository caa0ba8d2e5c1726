"""The same question has the same answer in every process: the order of sets, which Python mixes anew, never shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Contended clusters, pods tried in vain and rules about others: sets are iterated wherever a planner can.
PROGRAM = """
import hashlib
from dataclasses import replace

import msgspec

from cdmo.model.policy import Policy
from cdmo.model.relations import PodTerm
from cdmo.model.selectors import Requirement
from cdmo.planner import Planner
from tests.builders import key
from tests.planner.test_oracle import random_question

planner, digest = Planner(), hashlib.sha256()
apart = (PodTerm("host", (Requirement("app", "In", ("web",)),), ("ml",)),)
for seed in range(50):
    question = random_question(seed, most=1 + seed % 3)
    if seed % 2:
        first, *others = question.pending
        first = replace(first, labels=(("app", "web"),), anti_affinity=apart)
        avoid = frozenset((key(f"p{number}"), "gpu-0") for number in range(4))
        question = replace(question, pending=(first, *others), avoid=avoid)
    digest.update(msgspec.json.encode(planner.plan(question, Policy(reserve_after=seed % 4 * 1e9))))
print(digest.hexdigest())
"""


def test_processes_that_hash_differently_answer_with_the_same_bytes() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    try:
        digests = [each.communicate(timeout=15)[0] for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait()
    assert [each.returncode for each in processes] == [0, 0]
    assert len(digests[0].strip()) == 64
    assert digests[0] == digests[1]
