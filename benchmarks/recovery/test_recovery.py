"""Served again: an API server, an etcd or a leading controller fails while pods come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from benchmarks.conftest import StartPart
from benchmarks.recording import Part
from benchmarks.recovery.stand import Served, Stand, say, stand

ROUNDS = 10
EARLY, LATE = "gpu-1", "gpu-2"  # two nodes: a pod of one never waits for one of the other

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bed() -> AsyncIterator[Stand]:
    """One cluster for all of them."""
    async with stand() as made:
        yield made


def record(part: Part, since: str, rounds: list[tuple[float, Served]], bed: Stand) -> None:
    """The figures of ten rounds: seconds from `since` on."""
    part.figure(f"{since} -> running", [served.running - began for began, served in rounds], "s")
    part.figure(f"{since} -> scheduler gives up", [served.told - began for began, served in rounds], "s")
    own = [served.cut - max(began, served.told) for began, served in rounds]
    part.figure("CDMO: could act -> cut", own, "s")
    part.figure("CDMO: could act -> cut, worst", own, "s", key="cut", of=max)
    part.figure("cut -> running", [served.running - served.cut for _, served in rounds], "s")
    part.figure("harm", bed.harm(), key="harm")
    part.note("rounds", len(rounds))
    part.finish()


async def round_of_restart(bed: Stand, kill: Callable[[], None], start: Callable[[], None]) -> tuple[float, Served]:
    """A pod comes, something is killed, one more comes as soon as it is back: when that one is served."""
    await bed.come_to_rest()
    early, late = bed.resource(EARLY), bed.resource(LATE)
    before = await asyncio.to_thread(bed.changes, LATE)

    def go() -> tuple[float, Served]:
        bed.submit(EARLY, early)
        kill()
        start()  # returns when it is ready
        ready = time.time()
        return ready, bed.served(LATE, bed.submit(LATE, late), before)

    return await asyncio.to_thread(go)


async def test_undisturbed(bed: Stand, part: StartPart) -> None:
    """What a cut takes on this machine, in this minute, when nothing fails: for comparison."""
    seconds = []
    for _ in range(ROUNDS):
        await bed.come_to_rest()
        resource = bed.resource(LATE)
        before = await asyncio.to_thread(bed.changes, LATE)
        name = await asyncio.to_thread(bed.submit, LATE, resource)
        served = await asyncio.to_thread(bed.served, LATE, name, before)
        seconds.append(served.cut - served.told)
    measured = part("undisturbed")
    measured.figure("CDMO: could act -> cut", seconds, "s")
    measured.figure("CDMO: could act -> cut, worst", seconds, "s", of=max)
    measured.finish()


async def test_api_server_killed(bed: Stand, part: StartPart) -> None:
    plane = bed.cluster.control_plane
    rounds = []
    for number in range(ROUNDS):
        rounds.append(await round_of_restart(bed, lambda: plane.stop_api_server(grace=0), plane.start_api_server))
        say(f"API server killed, round {number}: {told(rounds[-1])}")
    record(part("API server killed"), "API server ready", rounds, bed)


async def test_etcd_killed(bed: Stand, part: StartPart) -> None:
    plane = bed.cluster.control_plane
    rounds = []
    for number in range(ROUNDS):
        rounds.append(await round_of_restart(bed, lambda: plane.stop_etcd(grace=0), plane.start_etcd))
        say(f"etcd killed, round {number}: {told(rounds[-1])}")
    record(part("etcd killed"), "etcd back", rounds, bed)


async def test_leader_killed(bed: Stand, part: StartPart) -> None:
    rounds = []
    for number in range(ROUNDS):
        await bed.come_to_rest()
        await bed.standby()
        rounds.append(await fail_over(bed, lambda: bed.cluster.controllers.pop(0).stop(grace=0)))
        say(f"leader killed, round {number}: {told(rounds[-1])}")
    record(part("leader killed"), "Lease over", rounds, bed)


async def test_leader_paused(bed: Stand, part: StartPart) -> None:
    rounds = []
    await bed.standby()
    for number in range(ROUNDS):
        await bed.come_to_rest()
        leader = bed.cluster.controllers[0]
        rounds.append(await fail_over(bed, leader.pause))
        holder = bed.lease()["holderIdentity"]
        # Both are there now: the one that wakes in the middle of what it did has to see that it leads no more.
        again = await asyncio.to_thread(bed.changes, EARLY)
        name = await asyncio.to_thread(bed.submit, EARLY, bed.resource(EARLY))
        leader.resume()
        await asyncio.to_thread(bed.served, EARLY, name, again)
        assert bed.lease()["holderIdentity"] == holder
        bed.cluster.controllers.reverse()
        say(f"leader paused, round {number}: {told(rounds[-1])}")
    record(part("leader paused"), "Lease over", rounds, bed)


def told(one: tuple[float, Served]) -> str:
    """A round in a few words."""
    began, served = one
    times = (served.told, served.cut, served.running)
    return "unschedulable, cut, running after {:.2f}, {:.2f}, {:.2f} s".format(*(each - began for each in times))


async def fail_over(bed: Stand, fail: Callable[[], None]) -> tuple[float, Served]:
    """The leader fails and a pod comes: seconds from the Lease's end on."""
    resource = bed.resource(LATE)
    before = await asyncio.to_thread(bed.changes, LATE)

    def go() -> tuple[float, Served]:
        fail()
        end = bed.lease_end()
        return end, bed.served(LATE, bed.submit(LATE, resource), before)

    return await asyncio.to_thread(go)
