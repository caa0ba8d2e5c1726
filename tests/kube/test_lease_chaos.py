"""Two candidates on the real API server, each behind faults of its own: at no moment do both lead."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.processes import ManagedProcess

from cdmo.kube.lease import LeaseTimes
from tests.proxied import until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio, pytest.mark.timeout(90)]

ROOT = Path(__file__).parents[2]
LIMIT_S = 40.0
# A fifth of the product's times, in the same proportions.
TIMES = LeaseTimes(lease_s=3.0, renew_s=2.0, retry_s=0.4, call_s=0.6)
_NUMBERS = itertools.count(1)

Look = tuple[float, float, bool]


class Candidate:
    """A process that takes part, and what it wrote of itself."""

    def __init__(self, proxy: ApiProxy, kubeconfig: Path, lease: str, name: str, folder: Path) -> None:
        self.name = f"{lease}-{name}"
        self._looks = folder / f"{name}.looks"
        settings = [f"{each:g}" for each in (TIMES.lease_s, TIMES.renew_s, TIMES.retry_s, TIMES.call_s)]
        path = proxy.kubeconfig_for(kubeconfig, self.name)
        command = [sys.executable, "-m", "tests.kube.elector_program", path, lease, self.name, *settings, self._looks]
        self.process = ManagedProcess(name, command, folder=folder, environment={"PYTHONPATH": str(ROOT)})

    def looks(self) -> list[Look]:
        """Every look so far: seconds before and after it, and whether it led."""
        if not self._looks.exists():
            return []
        rows = [line.split() for line in self._looks.read_text().splitlines()]
        return [(float(row[0]), float(row[1]), row[2] == "1") for row in rows if len(row) == 3]

    def leads(self) -> bool:
        """Whether it led at its last look."""
        return bool(found := self.looks()) and found[-1][2]


class Election:
    """Two candidates; the first leads."""

    def __init__(self, first: Candidate, second: Candidate) -> None:
        self.first = first
        self.second = second

    def check(self) -> None:
        """Never did both lead at one moment."""
        for one, other in ((self.first, self.second), (self.second, self.first)):
            theirs = [(before, after) for before, after, leads in other.looks() if leads]
            for before, after in terms_of(one.looks()):
                within = [each for each in theirs if before < each[1] and each[0] < after]
                assert not within, f"{one.name} and {other.name} led at once at {within[0]}"


def terms_of(looks: Sequence[Look]) -> list[tuple[float, float]]:
    """From the first to the last look of each time a candidate led; a gap in its looks (a pause) ends a term, for a
    process that does not run does nothing."""
    terms: list[tuple[float, float]] = []
    last: Look | None = None
    for look in looks:
        before, after, leads = look
        if leads:
            if last is not None and last[2] and before - last[1] < 0.5:
                terms[-1] = (terms[-1][0], after)
            else:
                terms.append((before, after))
        last = look
    return terms


@pytest.fixture
async def election(proxy: ApiProxy, kubeconfig: Path, tmp_path: Path) -> AsyncIterator[Election]:
    """Two candidates of one Lease, once the first leads and the second has seen it."""
    lease = f"lease-{next(_NUMBERS)}"
    candidates = [Candidate(proxy, kubeconfig, lease, "first", tmp_path)]
    try:
        await until(candidates[0].leads, LIMIT_S)
        candidates.append(Candidate(proxy, kubeconfig, lease, "second", tmp_path))
        await until(lambda: proxy.seen(clients=[candidates[1].name], resources=["leases"]) > 1, LIMIT_S)
        yield Election(*candidates)
    finally:
        proxy.clear()
        for each in candidates:
            each.process.stop(grace=0)


async def test_a_leader_that_is_cut_off_is_followed_and_never_joined(proxy: ApiProxy, election: Election) -> None:
    proxy.cut_off(election.first.name)
    await until(election.second.leads, LIMIT_S)
    assert not election.first.leads()
    proxy.clear()
    seen = proxy.seen(clients=[election.first.name])
    await until(lambda: proxy.seen(clients=[election.first.name]) > seen + 4, LIMIT_S)
    election.check()


async def test_a_leader_that_is_paused_past_its_lease_does_nothing_when_it_wakes(
    proxy: ApiProxy, election: Election
) -> None:
    election.first.process.pause()
    await until(election.second.leads, LIMIT_S)
    looks = len(election.first.looks())
    election.first.process.resume()
    await until(lambda: len(election.first.looks()) > looks + 100, LIMIT_S)
    assert not any(leads for _, _, leads in election.first.looks()[looks : looks + 20])
    election.check()


async def test_a_leader_that_is_killed_is_followed(election: Election) -> None:
    election.first.process.stop(grace=0)
    await until(election.second.leads, LIMIT_S)
    election.check()


async def test_a_leader_half_of_whose_answers_are_lost_goes_on_alone(proxy: ApiProxy, election: Election) -> None:
    """It wrote the Lease, but cannot know: it may believe in itself only as long as what it does know lets it."""
    proxy.lose_answers(clients=[election.first.name], share=0.5)
    seen = proxy.seen(clients=[election.first.name], verbs=["patch"])
    await until(lambda: proxy.seen(clients=[election.first.name], verbs=["patch"]) > seen + 8, LIMIT_S)
    election.check()


async def test_a_leader_whose_every_answer_is_lost_stops_leading_although_it_keeps_the_lease(
    proxy: ApiProxy, election: Election
) -> None:
    proxy.lose_answers(clients=[election.first.name])
    await until(lambda: not election.first.leads(), LIMIT_S)
    proxy.clear()
    await until(election.first.leads, LIMIT_S)
    election.check()


async def test_late_and_refused_requests_of_both_never_make_two_leaders(proxy: ApiProxy, election: Election) -> None:
    names = [election.first.name, election.second.name]
    proxy.slow(1.5, before=True, clients=names, share=0.4)
    proxy.slow(1.0, clients=names, share=0.2)
    proxy.answer(500, clients=names, share=0.2)
    proxy.answer(429, retry_after=1, clients=names, share=0.1)
    proxy.lose_answers(clients=names, share=0.2)
    seen = proxy.seen(clients=names, resources=["leases"])
    await until(lambda: proxy.seen(clients=names, resources=["leases"]) > seen + 30, LIMIT_S)
    proxy.clear()
    await until(lambda: election.first.leads() or election.second.leads(), LIMIT_S)
    election.check()
