"""Whatever files hold, they are read and planned: sentences, never a traceback.

Half the inputs are a sound cluster in which some places were overwritten, so that what is wrong lies deep.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdmo.kube.objects import Reading, read_snapshot
from cdmo.model.policy import Policy
from cdmo.planner import plan
from cdmo.planner.check import violations
from cdmo.simulation.cards import CARDS
from tests.builders import NOW, a30
from tests.kube.files import gpu_node, listed, mignode, priority_class, sketched, waiting


def inputs(number: int) -> settings:
    """As many as take about a second; the parts of a test are inputs of their own."""
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


PARTS = pytest.mark.parametrize("part", range(5))

SOUND = json.dumps(
    listed(
        [
            gpu_node(),
            mignode("gpu-1", a30(slices={"1g.6gb@0": "ml/old"}, desired=["1g.6gb@0", "2g.12gb@2"])),
            waiting(
                "train", "2g.12gb", priorityClassName="high", nodeSelector={"a": "b"}, tolerations=[{"key": "x"}]
            ),
            waiting("old", "1g.6gb", nodeName="gpu-1"),
            sketched("sketch", "1g.6gb"),
            priority_class("high", 5),
            gpu_node("gpu-2", **{"nvidia.com/gpu.product": "NVIDIA-A30", "nvidia.com/gpu.count": "1"}),
        ]
    )
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield at
    keys = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    for key in keys:
        yield from paths(value[key], (*at, key))


PLACES = [each for each in paths(json.loads(SOUND)) if each]
NAMES = st.sampled_from(
    ["", "gpu-1", "ml", "high", "Pod", "MigNode", "-5", "1e9", "9" * 40, "1g.10gb", "\ud800", "ü\0"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.integers(-2, 40) | st.floats() | NAMES
VALUES = st.recursive(
    SCALARS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), VALUES | st.just("DELETE")), min_size=1, max_size=4)


def changed(changes: list[tuple[tuple[Any, ...], Any]]) -> str:
    """The sound cluster after these changes; those whose place is gone by then do nothing."""
    whole = json.loads(SOUND)
    for path, value in changes:
        place = whole
        try:
            for key in path[:-1]:
                place = place[key]
            if value == "DELETE":
                del place[path[-1]]
            else:
                place[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    return json.dumps(whole)


def read_and_plan(text: bytes) -> Reading:
    """Both steps, as the command takes them; what was said must be sentences of one line."""
    policy = Policy()
    reading = read_snapshot(["-"], NOW, stdin=io.BytesIO(text), policy=policy, cards=CARDS)
    assert all(each.isprintable() and each for each in (*reading.problems, *reading.notes))
    made = plan(reading.snapshot, policy)
    assert violations(reading.snapshot, made) == ()
    return reading


def test_the_cluster_that_is_spoilt_below_is_sound() -> None:
    assert read_and_plan(SOUND.encode()).problems == ()


@PARTS
@inputs(200)
@given(changes=CHANGES)
def test_json_that_is_wrong_somewhere_deep_is_planned(part: int, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    read_and_plan(changed(changes).encode())


@PARTS
@inputs(100)
@given(changes=CHANGES)
def test_the_same_in_yaml(part: int, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    read_and_plan(("---\n" + changed(changes)).encode())


@inputs(500)
@given(text=st.binary(max_size=200))
def test_bytes_at_random_are_told_in_a_sentence(text: bytes) -> None:
    assert read_and_plan(text).problems


MARKS = list("[]{},?@`'\"|>#%~1")
WORDS = ["a", "kind", "Pod", "items", "metadata", "name", "&a", "*a", "<<", "!!str", "\\u0041"]
YAML_SIGNS = st.sampled_from([*MARKS, *WORDS, ": ", "\n", "\n  ", "\n- ", "\n---\n", " ", "\t"])


@inputs(500)
@given(signs=st.lists(YAML_SIGNS, max_size=30))
def test_yaml_at_random_is_read_or_told(signs: list[str]) -> None:
    read_and_plan("".join(signs).encode())


@inputs(200)
@given(cut=st.integers(0, len(SOUND)), junk=st.binary(max_size=3), skip=st.integers(0, 5))
def test_a_file_that_was_cut_or_overwritten_is_told(cut: int, junk: bytes, skip: int) -> None:
    text = SOUND.encode()
    read_and_plan(text[:cut] + junk + text[cut + skip :])
    assert read_and_plan(text[:cut]).problems or cut == len(text)
