"""From mirrors to a snapshot: what counts as pending, as managed, as alive."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from cdmo.controller.state import Heartbeats, calls_for_a_round, is_pending
from cdmo.model.cluster import PodInfo
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from tests.builders import assigned, h100, node, pod
from tests.controller.bench import BEAT, MIRRORED, Bench, mignode_of
from tests.fakes.clock import VirtualClock

WAITING = pod("train", "3g.40gb")


@pytest.mark.parametrize(
    "other",
    [
        replace(WAITING, unschedulable=False),
        replace(WAITING, node_name="gpu-1"),
        replace(WAITING, phase="Succeeded"),
        replace(WAITING, gated=True),
        replace(WAITING, terminating=True),
        replace(WAITING, scheduler_name="volcano"),
        replace(WAITING, requests={"cpu": 1000, "nvidia.com/gpu": 1}),
    ],
    ids=["not-judged", "bound", "finished", "gated", "terminating", "other-scheduler", "no-slices"],
)
def test_only_a_pod_the_scheduler_found_no_place_for_is_pending(other: PodInfo) -> None:
    assert is_pending(WAITING, Policy())
    assert not is_pending(other, Policy())


JUST_MADE = replace(WAITING, unschedulable=False)
BOUND = replace(JUST_MADE, node_name="gpu-1")


@pytest.mark.parametrize(
    ("before", "now", "does"),
    [
        (None, JUST_MADE, False),
        (None, replace(WAITING, gated=True), False),
        (replace(BOUND, phase="Succeeded"), None, False),
        (JUST_MADE, WAITING, True),
        (JUST_MADE, BOUND, True),
        (None, replace(BOUND, requests={"cpu": 1000}), True),
        (BOUND, replace(BOUND, phase="Succeeded"), True),
        (WAITING, None, True),
    ],
    ids=["made", "gated", "swept-away", "judged", "bound", "bound-without-slices", "finished", "given-up"],
)
def test_a_round_is_called_for_by_pods_that_wait_for_slices_or_take_room_or_did(
    before: PodInfo | None, now: PodInfo | None, does: bool
) -> None:
    """For one that was only just made no round is begun: it would put off the one that is for it."""
    assert calls_for_a_round(before, now, Policy()) is does


def test_heartbeats_are_timed_by_our_own_clock_whatever_they_say() -> None:
    clock = VirtualClock()
    heartbeats = Heartbeats(clock, silent_after=45.0)
    mignode = mignode_of(node("gpu-1"))
    future = changed(BEAT, heartbeat="2199-01-01T00:00:00Z")
    ahead = changed(mignode, status=changed(mignode.status, agent=future))
    past = changed(mignode, status=changed(mignode.status, agent=BEAT))
    assert heartbeats.silent_for(ahead) == 0.0
    clock.jump(44.0)
    assert heartbeats.alive(ahead)
    clock.jump(1.0)
    assert not heartbeats.alive(ahead)
    assert heartbeats.alive(past)  # it changed: the agent lives, though its clock was set back


def test_a_node_without_an_agent_is_not_alive() -> None:
    mignode = mignode_of(node("gpu-1"))
    assert not Heartbeats(VirtualClock(), 45.0).alive(changed(mignode, status=changed(mignode.status, agent=None)))


def test_a_node_that_went_and_came_back_is_heard_anew() -> None:
    clock = VirtualClock()
    heartbeats = Heartbeats(clock, silent_after=45.0)
    mignode = mignode_of(node("gpu-1"))
    heartbeats.silent_for(mignode)
    clock.jump(100.0)
    heartbeats.keep({})
    assert heartbeats.silent_for(mignode) == 0.0


def shot(bench: Bench) -> Snapshot:
    bench.state.catch_up()
    return bench.state.snapshot(bench.promises, now=5.0)


def test_a_snapshot_holds_gpu_nodes_pending_and_bound_pods_and_promises() -> None:
    old, far = pod("old", "1g.10gb", on="gpu-1"), pod("far", "1g.10gb", on="elsewhere")
    done = pod("done", "1g.10gb", on="gpu-1", phase="Succeeded")
    bench = Bench(node("gpu-1", [h100()]), pods=[WAITING, old, far, done])
    bench.nodes["plain"] = node("plain").node
    bench.promises.keep([assigned("train", "gpu-1", "3g.40gb@4")], 0.0)
    snapshot = shot(bench)
    assert [each.node.name for each in snapshot.nodes] == ["gpu-1"]
    assert snapshot.pending == (WAITING,)
    assert snapshot.nodes[0].pods == (old,)
    assert snapshot.assignments == (assigned("train", "gpu-1", "3g.40gb@4"),)
    assert snapshot.now == 5.0


@pytest.mark.parametrize("kind", MIRRORED)
def test_mirrors_are_synced_when_all_are(kind: str) -> None:
    bench = Bench()
    assert bench.mirrors.synced()
    bench.synced[kind] = False
    assert not bench.mirrors.synced()
