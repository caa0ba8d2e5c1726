"""The election: one leader at a time, judged by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cdmo.kube.connect import Connection
from cdmo.kube.lease import LeaseElector, LeaseTimes
from tests.fakes import faults
from tests.fakes.api_server import Exchange, FakeApiServer
from tests.fakes.api_store import Address
from tests.fakes.clock import VirtualClock
from tests.kube.objects import connection_to

pytestmark = pytest.mark.asyncio

PATH = "apis/coordination.k8s.io/v1/namespaces/cdmo/leases/cdmo-controller"


class Election:
    """A fake API server, a clock and any number of candidates."""

    def __init__(self, server: FakeApiServer, connection: Connection) -> None:
        self.server = server
        self.clock = VirtualClock()
        self._connection = connection
        self._tasks: dict[LeaseElector, asyncio.Task[None]] = {}

    async def candidate(self, identity: str, times: LeaseTimes | None = None) -> LeaseElector:
        """One that has had its first try."""
        elector = LeaseElector(
            self._connection,
            "cdmo",
            "cdmo-controller",
            identity,
            clock=self.clock,
            random=lambda: 0.5,
            times=times or LeaseTimes(),
        )
        self._tasks[elector] = asyncio.create_task(elector.run())
        await self.settled()
        return elector

    async def pass_time(self, seconds: float) -> None:
        """Let time pass in steps smaller than a retry; every candidate acts in between."""
        for _ in range(round(seconds * 2)):
            await self.clock.advance(0.5)
            await self.settled()

    async def settled(self) -> None:
        """Every running candidate has done what it does between two sleeps."""
        async with asyncio.timeout(5):
            await self.clock.sleeping(sum(not task.done() for task in self._tasks.values()))

    async def stop(self, elector: LeaseElector) -> None:
        """Cancel its task and wait for its end."""
        task = self._tasks[elector]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop_all(self) -> None:
        """At the end."""
        for elector in self._tasks:
            await self.stop(elector)

    def lease(self) -> Any:
        """The Lease's spec on the server."""
        return self.server.store.objects[Address.parse(PATH)]["spec"]


@asynccontextmanager
async def election(folder: Path) -> AsyncIterator[Election]:
    """An election that is over with the block."""
    async with FakeApiServer() as server, connection_to(server.url, folder) as connection:
        held = Election(server, connection)
        try:
            yield held
        finally:
            await held.stop_all()


async def test_the_first_candidate_leads_and_keeps_leading(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        assert first.is_leader()
        await first.wait_leader()
        second = await held.candidate("second")
        for _ in range(20):
            await held.pass_time(2)
            assert first.is_leader()
            assert not second.is_leader()
        assert held.lease()["holderIdentity"] == "first"
        assert held.lease()["leaseDurationSeconds"] == 15
        assert held.lease()["leaseTransitions"] == 0
        assert held.lease()["acquireTime"] < held.lease()["renewTime"]
        assert first.terms == 1


async def test_a_paused_leader_stops_believing_before_anybody_can_take_over(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        held.clock.jump(9.9)
        assert first.is_leader()
        held.clock.jump(0.2)  # nothing of it ran meanwhile
        assert not first.is_leader()


async def only_the_second_gets_through(exchange: Exchange) -> None:
    """The network between the first candidate and the API server is down for writes."""
    if b'"first"' in exchange.request.body:
        await faults.answer(503)(exchange)
    else:
        await exchange.server.serve(exchange)


async def test_there_are_never_two_leaders_when_the_first_writes_in_vain(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        second = await held.candidate("second")
        held.server.script("patch", *[only_the_second_gets_through] * 1000)
        leaders: list[tuple[bool, bool]] = []
        for _ in range(60):
            await held.pass_time(0.5)
            leaders.append((first.is_leader(), second.is_leader()))
        assert list(dict.fromkeys(leaders)) == [(True, False), (False, False), (False, True)]


async def test_a_dead_leader_is_followed_after_fifteen_seconds_and_not_before(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        held.server.store.apply(
            PATH,
            {"spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15, "leaseTransitions": 4}},
        )
        standby = await held.candidate("standby")
        await held.pass_time(14)
        assert not standby.is_leader()
        await held.pass_time(4)
        assert standby.is_leader()
        assert held.lease()["leaseTransitions"] == 5


async def test_a_standby_takes_a_lease_in_the_moment_it_runs_out_however_seldom_it_looks(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        held.server.store.apply(PATH, {"spec": {"holderIdentity": "dead", "leaseDurationSeconds": 15}})
        began = held.clock.monotonic()
        standby = await held.candidate("standby", LeaseTimes(retry_s=36.0))
        while not standby.is_leader():
            await held.pass_time(0.5)
        assert 15 <= held.clock.monotonic() - began <= 15.5


async def test_a_standby_sees_a_renewal_soon(tmp_path: Path) -> None:
    """By as much as it sees one late, it would take over late."""
    async with election(tmp_path) as held:
        held.server.store.apply(PATH, {"spec": {"holderIdentity": "first", "leaseDurationSeconds": 15}})
        await held.candidate("standby")
        asked = len(held.server.asked("get"))
        await held.pass_time(10)
        assert len(held.server.asked("get")) - asked >= 9  # time passes in steps here: fewer than on a real clock


async def test_a_leader_that_goes_is_followed_at_once(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        second = await held.candidate("second")
        await held.stop(first)
        assert not first.is_leader()
        assert held.lease()["holderIdentity"] == ""
        await held.pass_time(3)
        assert second.is_leader()


async def test_a_leader_without_an_api_server_steps_down_and_takes_up_again_later(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        await held.server.down()
        await held.pass_time(9)
        assert first.is_leader()
        await held.pass_time(3)
        assert not first.is_leader()
        await held.server.up()
        await held.pass_time(3)
        assert first.is_leader()
        assert first.terms == 2


async def test_a_lost_race_is_no_leadership(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        held.server.script("post", faults.answer(409, "AlreadyExists"))
        first = await held.candidate("first")
        assert not first.is_leader()
        held.server.store.apply(PATH, {"spec": {"holderIdentity": ""}})
        held.server.script("patch", *[faults.answer(409, "Conflict")] * 2)
        await held.pass_time(2)
        assert not first.is_leader()
        await held.pass_time(2.5)
        assert first.is_leader()


async def test_a_lease_taken_by_force_ends_the_leadership_within_its_deadline(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        held.server.store.apply(PATH, {"spec": {"holderIdentity": "usurper", "leaseDurationSeconds": 15}})
        await held.pass_time(10)
        assert not first.is_leader()
        assert held.lease()["holderIdentity"] == "usurper"


async def test_what_others_wrote_on_the_lease_stays(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        held.server.store.apply(PATH, {"metadata": {"labels": {"team": "ml"}}, "spec": {"strategy": "Coordinated"}})
        first = await held.candidate("first")
        assert first.is_leader()
        assert held.lease()["strategy"] == "Coordinated"
        assert held.server.store.objects[Address.parse(PATH)]["metadata"]["labels"] == {"team": "ml"}


async def test_a_farewell_without_an_api_server_is_short_and_silent(tmp_path: Path) -> None:
    async with election(tmp_path) as held:
        first = await held.candidate("first")
        await held.server.down()
        await held.stop(first)
        assert not first.is_leader()
