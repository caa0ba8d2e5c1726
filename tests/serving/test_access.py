"""Who may see what is served."""

from __future__ import annotations

import asyncio

import pytest

from cdmo.errors import ClusterUnavailable
from cdmo.serving.access import AccessLimits, OpenAccess, ReviewedAccess, Verdict
from tests.fakes.clock import VirtualClock

PATH = "/metrics"


class Reviewer:
    """An API server that knows two tokens."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def may_get(self, token: str, path: str) -> bool | None:
        self.asked.append((token, path))
        await self.gate.wait()
        if self.away:
            raise ClusterUnavailable("no answer")
        return {"good": True, "poor": False}.get(token)


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.reviewer = Reviewer()
        limits = AccessLimits(allowed_for=60.0, refused_for=10.0, remembered=3, at_once=2, longest_token=100)
        self.access = ReviewedAccess(self.reviewer, self.clock, limits)

    async def of(self, token: str, path: str = PATH) -> Verdict:
        return await self.access.of(f"Bearer {token}", path)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic Z29vZA==", "good", f"Bearer {'x' * 101}"])
async def test_without_a_bearer_token_nobody_is_asked(header: str, bench: Bench) -> None:
    assert await bench.access.of(header, PATH) is Verdict.UNKNOWN
    assert bench.reviewer.asked == []


async def test_the_api_server_decides(bench: Bench) -> None:
    assert await bench.of("good") is Verdict.ALLOWED
    assert await bench.of("poor") is Verdict.FORBIDDEN
    assert await bench.of("nobody's") is Verdict.UNKNOWN
    assert await bench.access.of("bearer good", PATH) is Verdict.ALLOWED


async def test_its_word_is_kept_for_a_while_and_a_refusal_for_less(bench: Bench) -> None:
    for _ in range(5):
        await bench.of("good")
        await bench.of("poor")
    assert len(bench.reviewer.asked) == 2
    bench.clock.jump(10.0)
    await bench.of("good")
    await bench.of("poor")
    assert bench.reviewer.asked[2:] == [("poor", PATH)]
    bench.clock.jump(50.0)
    await bench.of("good")
    assert bench.reviewer.asked[-1] == ("good", PATH)


async def test_who_may_see_one_path_is_asked_about_again_for_another(bench: Bench) -> None:
    await bench.of("good")
    await bench.of("good", "/readyz")
    assert bench.reviewer.asked == [("good", PATH), ("good", "/readyz")]


async def test_any_number_of_tokens_takes_no_more_memory(bench: Bench) -> None:
    for number in range(100):
        assert await bench.of(f"made-up-{number}") is Verdict.UNKNOWN
    assert len(bench.access._known) == 3


async def test_while_the_api_server_is_away_nobody_new_gets_in_and_that_is_not_remembered(bench: Bench) -> None:
    await bench.of("poor")
    bench.reviewer.away = True
    assert await bench.of("good") is Verdict.UNDECIDED
    assert await bench.of("poor") is Verdict.FORBIDDEN
    bench.reviewer.away = False
    assert await bench.of("good") is Verdict.ALLOWED


async def test_many_unknown_tokens_at_once_do_not_flood_the_api_server(bench: Bench) -> None:
    await bench.of("good")
    bench.reviewer.gate.clear()
    waiting = [asyncio.create_task(bench.of(f"made-up-{number}")) for number in range(2)]
    await asyncio.sleep(0)
    assert await bench.of("one more") is Verdict.BUSY
    assert await bench.of("good") is Verdict.ALLOWED  # who is known is not held up
    bench.reviewer.gate.set()
    assert await asyncio.gather(*waiting) == [Verdict.UNKNOWN] * 2
    assert await bench.of("one more") is Verdict.UNKNOWN


async def test_a_caller_that_goes_away_leaves_room_for_the_next(bench: Bench) -> None:
    bench.reviewer.gate.clear()
    for _ in range(5):
        gone = asyncio.create_task(bench.of("good"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    bench.reviewer.gate.set()
    assert await bench.of("good") is Verdict.ALLOWED


async def test_on_loopback_everybody_may(bench: Bench) -> None:
    assert await OpenAccess().of("", PATH) is Verdict.ALLOWED
