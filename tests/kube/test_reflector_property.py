"""Whatever happens, in whatever order: in the end the mirror holds what the server holds."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdmo.kube.reflector import WatchSettings
from cdmo.model.cluster import PodInfo
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.kube.mirrors import Watched, watching

NAMES = ("a", "b", "c", "d")

WATCH_FAULTS = (
    faults.end_at_once,
    faults.end_after_an_event,
    faults.reset_within_an_event,
    faults.end_within_an_event,
    faults.reset,
    faults.stream(faults.GARBAGE),
    faults.answer(410, "Expired"),
    faults.error_in_stream(410, "Expired"),
    faults.error_in_stream(500, "InternalError"),
    faults.answer(429, "TooManyRequests", retry_after=1),
    faults.answer(503),
)
LIST_FAULTS = (faults.reset, faults.answer(500), faults.answer(410, "Expired"), faults.body(b"[]"))

names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("put"), names),
    st.tuples(st.just("put_odd"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("watch"), st.sampled_from(WATCH_FAULTS)),
    st.tuples(st.just("list"), st.sampled_from(LIST_FAULTS)),
    st.tuples(st.just("more"), st.sampled_from(LIST_FAULTS)),
    st.tuples(st.sampled_from(["cut", "compact", "down", "up", "settle"]), st.none()),
)


async def take(step: str, what: object, mirror: Watched, number: int) -> None:
    """Carry out one step on the server."""
    server = mirror.server
    present = {one.name for one in server.store.objects}
    match step, what:
        case "put", str(name):
            mirror.put(name, uid=f"{name}{number}")
        case "put_odd", str(name):
            mirror.put_odd(name)
        case "remove", str(name) if name in present:
            mirror.remove(name)
        case (("watch" | "list" | "more"), fault) if callable(fault):
            server.script(step, fault)
        case "cut", _:
            server.cut_watches()
        case "compact", _:
            server.store.compact()
        case "down", _:
            await server.down()
        case "up", _:
            await server.down()
            await server.up()
        case _:
            for _ in range(50):
                await asyncio.sleep(0)


async def live_through(story: list[tuple[str, object]]) -> None:
    """Tell the story, make the server a good one again, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        async with FakeApiServer() as server, watching(server, Path(folder), WatchSettings(page=2)) as mirror:
            for number, (step, what) in enumerate(story):
                await take(step, what, mirror, number)
                await asyncio.sleep(0)
            server.forget_scripts()
            await server.down()
            await server.up()
            await mirror.until_equal()
            mirror.put("last")
            await mirror.until_equal()
            told: dict[str, PodInfo] = {}
            for key, old, new in mirror.changes:
                assert told.get(key) == old, "each change starts from what was told before"
                told.pop(key, None)
                if new is not None:
                    told[key] = new
            assert told == dict(mirror.reflector.items), "the changes told add up to what is there"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=25))
def test_the_mirror_equals_the_server_after_any_story(story: list[tuple[str, object]]) -> None:
    asyncio.run(live_through(story))
