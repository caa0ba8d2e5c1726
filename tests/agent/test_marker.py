"""The label that keeps the agent on a node until it is left clean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cdmo.errors import PluginStuck
from cdmo.model.cluster import carries_fence
from cdmo.model.names import MANAGED_LABEL, PARTITIONING_LABEL
from tests.agent.bench import NAME, AgentBench
from tests.agent.nodes import SEVEN, THREE_LOW


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    made = AgentBench(tmp_path, SEVEN)
    yield made
    made.rig.worker.close()


def unlabel(bench: AgentBench) -> None:
    """An administrator takes the label off."""
    labels = {key: value for key, value in bench.node.info.labels.items() if key != PARTITIONING_LABEL}
    bench.node.info = replace(bench.node.info, labels=labels)


def marked(bench: AgentBench) -> bool:
    return MANAGED_LABEL in bench.node.info.labels


async def test_a_labelled_node_is_marked_once(bench: AgentBench) -> None:
    await bench.round()
    await bench.round()
    assert (marked(bench), bench.node.calls.count("label")) == (True, 1)


async def test_a_clean_node_that_lost_the_label_is_unmarked(bench: AgentBench) -> None:
    await bench.round()
    unlabel(bench)
    await bench.round()
    await bench.round()
    assert (marked(bench), bench.node.calls.count("label")) == (False, 2)


async def test_a_node_whose_change_is_not_over_stays_marked_until_it_is(bench: AgentBench) -> None:
    await bench.round()
    bench.want(THREE_LOW)
    bench.node.fails["reload"] = [PluginStuck("the device plugin did not come back")]
    await bench.round()
    unlabel(bench)
    assert carries_fence(bench.node.info)
    await bench.round(2.0)  # ends the change
    await bench.round()
    assert (marked(bench), carries_fence(bench.node.info)) == (False, False)


async def test_a_node_that_was_never_labelled_is_left_alone(bench: AgentBench) -> None:
    unlabel(bench)
    await bench.round()
    assert bench.node.calls.count("label") == 0


async def test_a_node_without_a_mignode_is_unmarked_as_well(bench: AgentBench) -> None:
    await bench.round()
    unlabel(bench)
    del bench.api.nodes[NAME]
    await bench.round()
    assert not marked(bench)
