"""Events: written once, never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cdmo.kube.port import Event, EventSink, Involved
from cdmo.kube.recorder import NOTE_LIMIT, Recorder, RecorderSettings, cut
from cdmo.model.reasons import EventReason
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.fakes.clock import HastyClock
from tests.kube.objects import connection_to

pytestmark = pytest.mark.asyncio

NODE = Involved("Node", "gpu-1", uid="u1")
POD = Involved("Pod", "train", "ml", "u2")


class Recording:
    """A recorder that runs against a fake API server."""

    def __init__(self, server: FakeApiServer, recorder: Recorder, clock: HastyClock) -> None:
        self.server = server
        self.recorder = recorder
        self.clock = clock

    async def until_written(self, count: int) -> None:
        """Wait until so many were asked to be written and are."""
        async with asyncio.timeout(5):
            while len(self.server.store.objects) < count:
                await self.server.change()

    def notes(self) -> list[str]:
        """What is written, in order."""
        return [one["note"] for one in self.server.store.objects.values()]


@asynccontextmanager
async def recording(folder: Path, settings: RecorderSettings | None = None) -> AsyncIterator[Recording]:
    """Run a recorder while the block runs."""
    clock = HastyClock()
    async with FakeApiServer() as server, connection_to(server.url, folder) as connection:
        recorder = Recorder(
            connection,
            "cdmo-agent",
            "gpu-1",
            clock=clock,
            random=lambda: 0.5,
            settings=settings or RecorderSettings(),
        )
        task = asyncio.create_task(recorder.run())
        try:
            yield Recording(server, recorder, clock)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def event(message: str, involved: Involved = NODE, *, warning: bool = False) -> Event:
    """An Event about a Node."""
    return Event(involved, EventReason.REPARTITIONED, message, warning)


async def test_an_event_has_all_that_the_api_wants(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        held.recorder.emit(event("cut 2 slices", warning=True))
        await held.until_written(1)
        (written,) = held.server.store.objects.values()
        (request,) = held.server.asked("post")
    assert request.path == "/apis/events.k8s.io/v1/namespaces/default/events"
    assert written["type"] == "Warning"
    assert written["reason"] == written["action"] == "Repartitioned"
    assert written["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": "gpu-1", "uid": "u1"}
    assert written["reportingController"] == "cdmo-agent"
    assert written["reportingInstance"] == "gpu-1"
    assert written["eventTime"] == "2025-06-15T15:06:40.000000Z"
    assert written["metadata"]["name"].startswith("gpu-1.")


async def test_an_event_whose_first_answer_was_lost_is_written_once(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        held.server.script("post", faults.carry_out_and_reset)
        held.recorder.emit(event("cut"))
        held.recorder.emit(event("cut again"))
        await held.until_written(2)
        assert len(held.server.asked("post")) >= 3
        assert held.notes() == ["cut", "cut again"]
        assert held.recorder.dropped == 0


async def test_an_event_about_a_pod_goes_to_its_namespace(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        held.recorder.emit(event("waits", POD))
        await held.until_written(1)
        (request,) = held.server.asked("post")
    assert request.path.endswith("/namespaces/ml/events")
    assert request.json()["regarding"]["namespace"] == "ml"


async def test_what_was_said_is_not_said_again_until_the_dedupe_time_is_over(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        for _ in range(5):
            held.recorder.emit(event("same"))
        held.recorder.emit(event("other"))
        await held.until_written(2)
        held.clock.jump(301)
        held.recorder.emit(event("same"))
        await held.until_written(3)
        assert held.notes() == ["same", "other", "same"]


async def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    async with recording(tmp_path, RecorderSettings(remembered=10, queue=1000)) as held:
        for number in range(100):
            held.recorder.emit(event(f"m{number}"))
        held.recorder.emit(event("m99"))  # still remembered
        held.recorder.emit(event("m0"))  # forgotten: said again
        await held.until_written(101)
        assert held.notes()[-1] == "m0"


async def test_a_full_queue_drops_the_oldest(tmp_path: Path) -> None:
    async with recording(tmp_path, RecorderSettings(queue=3)) as held:
        for number in range(10):
            held.recorder.emit(event(f"m{number}"))
        await held.until_written(3)
        assert held.notes() == ["m7", "m8", "m9"]
        assert held.recorder.dropped == 7


async def test_a_long_message_is_cut(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        held.recorder.emit(event("ü" * 5000))
        await held.until_written(1)
        (note,) = held.notes()
    assert len(note.encode()) <= NOTE_LIMIT
    assert note.endswith("ü…")


async def test_a_server_that_is_away_for_a_moment_gets_it_later(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        held.server.script("post", faults.answer(503), faults.reset, faults.answer(429, retry_after=9))
        held.recorder.emit(event("patience"))
        await held.until_written(1)
        assert held.clock.slept == [0.75, 1.5, 9.0]


async def test_a_refused_event_is_dropped_and_the_next_one_written(tmp_path: Path) -> None:
    async with recording(tmp_path) as held:
        held.server.script("post", faults.answer(403), faults.answer(422))
        for message in ("forbidden", "invalid", "fine"):
            held.recorder.emit(event(message))
        await held.until_written(1)
        assert held.notes() == ["fine"]
        assert held.recorder.dropped == 2


async def test_what_is_queued_at_the_end_is_still_written(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        recorder = Recorder(connection, "cdmo-agent", "gpu-1", clock=HastyClock(), random=lambda: 0.5)
        task = asyncio.create_task(recorder.run())
        await asyncio.sleep(0)  # it waits for work by now
        sink: EventSink = recorder
        sink.emit(event("last words"))
        task.cancel()  # before it could write
        await asyncio.gather(task, return_exceptions=True)
        assert [one["note"] for one in server.store.objects.values()] == ["last words"]


@pytest.mark.parametrize(("text", "limit"), [("", 3), ("abc", 3), ("abcd", 3), ("äöü", 5), ("😀😀", 7)])
async def test_cutting_never_splits_a_character_nor_exceeds_the_limit(text: str, limit: int) -> None:
    assert len(cut(text, limit).encode()) <= limit
    assert cut(text, limit).rstrip("…") in text
