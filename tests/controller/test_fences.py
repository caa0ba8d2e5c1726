"""Lifting fences whose agent is silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.errors import ClusterUnavailable
from cdmo.model.cluster import Taint, carries_fence
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT
from cdmo.model.reasons import EventReason
from tests.builders import h100, node
from tests.controller.bench import Bench

LIMIT = 300.0


@pytest.fixture
async def bench() -> Bench:
    """A fenced node, whose mirror follows the API server."""
    bench = Bench(node("gpu-1", [h100()]))
    api = bench.fence_api
    await api.set_taint("gpu-1", REPARTITIONING_TAINT, "NoSchedule")
    await api.set_labels("gpu-1", {FENCE_LABEL: FENCE_VALUE})
    api.calls.clear()
    api.on_call = lambda _: mirror(bench)
    mirror(bench)
    return bench


def mirror(bench: Bench) -> None:
    bench.nodes["gpu-1"] = replace(bench.fence_api.info, name="gpu-1", uid="uid-gpu-1")


async def test_a_fence_stands_while_its_agent_may_still_be_at_work(bench: Bench) -> None:
    await bench.loop.round()
    bench.clock.jump(LIMIT - 0.1)
    await bench.loop.round()
    assert carries_fence(bench.fence_api.info)
    assert bench.fence_api.calls == []


async def test_a_fence_is_lifted_when_its_agent_has_been_silent_for_the_limit(bench: Bench) -> None:
    await bench.loop.round()
    bench.clock.jump(LIMIT)
    await bench.loop.round()
    assert not carries_fence(bench.fence_api.info)
    (event,) = bench.events.of(EventReason.FENCE_LAPSED)
    assert (event.involved.kind, event.involved.name, event.involved.uid) == ("Node", "gpu-1", "uid-gpu-1")
    assert "silent for 300 s" in event.message


async def test_a_fence_behind_which_something_was_touched_stands_until_its_agent_is_back(bench: Bench) -> None:
    await bench.fence_api.set_labels("gpu-1", {FENCE_LABEL: FENCE_CHANGING})
    mirror(bench)
    bench.fence_api.calls.clear()
    await bench.loop.round()
    bench.clock.jump(10 * LIMIT)
    await bench.loop.round()
    assert bench.fence_api.fenced
    assert bench.fence_api.info.taints
    assert bench.fence_api.calls == []
    (event,) = bench.events.of(EventReason.FENCE_STANDS)
    assert (event.involved.kind, event.involved.uid, event.warning) == ("Node", "uid-gpu-1", True)
    assert "silent for more than 300 s in the middle of a change" in event.message


async def test_an_agent_that_wakes_up_and_begins_keeps_its_fence(bench: Bench) -> None:
    """The mirror still shows the fence as it was before the agent made it its own."""
    await bench.loop.round()
    bench.clock.jump(LIMIT)
    bench.fence_api.on_call = lambda _: None
    await bench.fence_api.set_labels("gpu-1", {FENCE_LABEL: FENCE_CHANGING})
    await bench.loop.round()
    assert bench.fence_api.fenced
    assert bench.fence_api.info.taints


async def test_an_agent_that_beats_however_slowly_keeps_its_fence(bench: Bench) -> None:
    for number in range(4):
        await bench.loop.round()
        bench.clock.jump(LIMIT - 1.0)
        bench.beat("gpu-1", f"2026-01-01T00:00:0{number}Z")
    await bench.loop.round()
    assert carries_fence(bench.fence_api.info)


async def test_a_taint_that_was_left_behind_goes_too(bench: Bench) -> None:
    bench.fence_api.info = replace(bench.fence_api.info, labels={})
    bench.fence_api.info = replace(bench.fence_api.info, taints=(Taint(REPARTITIONING_TAINT, "", "NoSchedule"),))
    mirror(bench)
    await bench.loop.round()
    bench.clock.jump(LIMIT)
    await bench.loop.round()
    assert bench.fence_api.info.taints == ()


async def test_a_lift_that_fails_is_tried_again_and_stops_no_round(bench: Bench) -> None:
    bench.fence_api.fails["unfence"] = [ClusterUnavailable("no answer")]
    await bench.loop.round()
    bench.clock.jump(LIMIT)
    await bench.loop.round()
    assert carries_fence(bench.fence_api.info)
    assert bench.events.events == []
    await bench.loop.round()
    assert not carries_fence(bench.fence_api.info)


async def test_a_controller_that_does_not_lead_lifts_nothing(bench: Bench) -> None:
    await bench.loop.round()
    bench.clock.jump(LIMIT)
    bench.leading = False
    await bench.loop.round()
    assert carries_fence(bench.fence_api.info)


async def test_nodes_without_a_fence_are_not_touched() -> None:
    bench = Bench(node("gpu-1", [h100()]))
    await bench.loop.round()
    bench.clock.jump(LIMIT)
    await bench.loop.round()
    assert bench.fence_api.calls == []
