"""What a controller does besides leading: it keeps up, keeps its memory bounded, and does not stand still."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from cdmo.controller.loop import RoundSettings
from cdmo.controller.state import Heartbeats
from cdmo.errors import ClusterUnavailable
from tests.builders import BUS, h100, node, pod
from tests.controller.bench import Bench, mignode_of
from tests.fakes.clock import VirtualClock

TRAIN = pod("train", "7g.80gb")
LIMIT = 10.0  # seconds, for whatever must come at all


class Tracking(Bench):
    """A bench whose mirrors remember what nobody took, as reflectors do."""

    def untaken(self) -> set[str]:
        mirrors = self.mirrors
        kinds = (mirrors.pods, mirrors.nodes, mirrors.mignodes, mirrors.claims, mirrors.volumes, mirrors.namespaces)
        return set().union(*(each.changed() for each in kinds))


async def test_a_standby_takes_up_what_changed_and_writes_nothing() -> None:
    bench = Tracking(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.leading = False
    bench.namespaces["ml"] = {}
    await bench.loop.round()
    assert bench.api.calls == []
    assert bench.untaken() == set()
    assert bench.state.waiting == 1


async def test_a_standby_that_comes_to_lead_plans_from_what_is_there_now() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[pod("gone", "3g.40gb"), TRAIN])
    bench.leading = False
    await bench.loop.round()
    del bench.pods["ml/gone"]
    await bench.loop.round()
    bench.leading = True
    await bench.loop.round()
    assert bench.specs() == {"gpu-1": {BUS[0]: [(0, 0)]}}


async def test_a_leader_too_leaves_nothing_untaken() -> None:
    bench = Tracking(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.namespaces["ml"] = {}
    await bench.loop.round()
    await bench.loop.round()
    assert bench.untaken() == set()


def test_the_heartbeats_of_nodes_that_are_gone_are_forgotten_by_a_standby_too() -> None:
    heartbeats = Heartbeats(VirtualClock(), 45.0)
    for number in range(100):
        mignode = mignode_of(node(f"gpu-{number}"))
        heartbeats.alive(mignode)
        heartbeats.forget(mignode.metadata.name)
    assert heartbeats._heard == {}


async def one_round(bench: Bench) -> None:
    """The task of a process, until its first round is over."""
    over = asyncio.Event()
    mark = bench.pulse.mark
    seen: list[str] = []

    def marked(doing: str = "") -> None:
        mark(doing)
        seen.append(doing)
        if len(seen) == 3:
            over.set()

    bench.pulse.mark = marked  # type: ignore[method-assign]
    bench.trigger.pull()
    task = asyncio.create_task(bench.loop.run())
    await asyncio.wait_for(over.wait(), LIMIT)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert seen == ["waiting for the next round", "a round", "waiting for the next round"]


async def test_a_round_that_takes_for_ever_is_given_up_and_the_next_one_comes() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.loop._settings = replace(RoundSettings(), longest_round=0.05)

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    bench.api.write_spec = never  # type: ignore[method-assign,assignment]
    with capture_logs() as logs:
        await one_round(bench)
    assert any("took too long" in each["event"] for each in logs)
    assert bench.metrics.registry.get_sample_value("cdmo_controller_rounds_total", {"result": "failed"}) == 1


@pytest.mark.parametrize(("leads", "counted"), [(True, 1), (False, 0)])
async def test_the_rounds_of_a_leader_are_counted(leads: bool, counted: int) -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])
    bench.leading = leads
    await one_round(bench)
    value = bench.metrics.registry.get_sample_value
    assert value("cdmo_controller_rounds_total", {"result": "finished"}) == counted
    assert value("cdmo_controller_plan_seconds_count") == counted


async def test_a_round_that_fails_is_counted_and_the_task_goes_on() -> None:
    bench = Bench(node("gpu-1", [h100()]), pods=[TRAIN])

    def fail() -> None:
        raise ClusterUnavailable("no answer")

    bench.state.catch_up = fail  # type: ignore[method-assign]
    await one_round(bench)
    assert bench.metrics.registry.get_sample_value("cdmo_controller_rounds_total", {"result": "failed"}) == 1


async def test_pods_that_wait_show_in_the_metrics() -> None:
    bench = Bench(node("gpu-1", [h100({"7g.80gb@0": "ml/other"})]), pods=[TRAIN])
    await bench.loop.round()
    value = bench.metrics.registry.get_sample_value
    assert sum(value("cdmo_controller_waiting_pods", {"code": code}) or 0 for code in ("NoRoom", "NeverFits")) == 1
