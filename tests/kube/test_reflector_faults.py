"""The mirror against a server, or a network, that goes wrong: every fault alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from cdmo.kube.reflector import WatchSettings
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer, Fault
from tests.fakes.api_store import line
from tests.kube.mirrors import Watched, watching
from tests.kube.objects import pod_json

pytestmark = pytest.mark.asyncio


async def survives(
    folder: Path, verb: str, *scripted: Fault, settings: WatchSettings | None = None
) -> tuple[FakeApiServer, Watched]:
    """Let the fault happen while a pod is created and another deleted; the mirror must end up equal."""
    async with FakeApiServer() as server:
        server.store.apply("api/v1/namespaces/ml/pods/old", pod_json("old"))
        server.script(verb, *scripted)
        async with watching(server, folder, settings) as mirror:
            await mirror.until(lambda: bool(server.asked(verb if verb != "more" else "list")))
            mirror.put("new")
            mirror.remove("old")
            await mirror.until_equal()
            await mirror.until(lambda: not server.pending(verb))
            mirror.put("later")
            await mirror.until_equal()
            assert mirror.names() == {"new", "later"}
    return server, mirror


async def test_a_watch_that_ends_is_taken_up_where_it_was(tmp_path: Path) -> None:
    server, _ = await survives(tmp_path, "watch", faults.end_after_an_event)
    assert len(server.asked("list")) == 1


async def test_watches_that_end_at_once_do_not_become_a_storm(tmp_path: Path) -> None:
    _, mirror = await survives(tmp_path, "watch", *[faults.end_at_once] * 6)
    assert len(mirror.clock.slept) >= 6
    assert min(mirror.clock.slept) >= 0.2


async def test_a_connection_reset_within_an_event_loses_nothing(tmp_path: Path) -> None:
    await survives(tmp_path, "watch", faults.reset_within_an_event)


async def test_a_truncated_line_loses_nothing(tmp_path: Path) -> None:
    await survives(tmp_path, "watch", faults.end_within_an_event)


async def test_a_line_of_garbage_loses_nothing(tmp_path: Path) -> None:
    await survives(tmp_path, "watch", faults.stream(faults.GARBAGE))


async def test_events_that_arrive_byte_by_byte_are_whole(tmp_path: Path) -> None:
    server, _ = await survives(tmp_path, "watch", faults.event_in_small_pieces)
    assert len(server.asked("watch")) == 1


async def test_a_version_too_old_answered_with_410_leads_to_a_new_list(tmp_path: Path) -> None:
    server, _ = await survives(tmp_path, "watch", faults.answer(410, "Expired"))
    assert len(server.asked("list")) == 2


async def test_a_version_too_old_told_inside_the_stream_leads_to_a_new_list(tmp_path: Path) -> None:
    server, _ = await survives(tmp_path, "watch", faults.error_in_stream(410, "Expired"))
    assert len(server.asked("list")) == 2


async def test_a_failure_told_inside_the_stream_is_waited_out(tmp_path: Path) -> None:
    await survives(tmp_path, "watch", faults.error_in_stream(500, "InternalError"))


async def test_a_row_of_failed_watches_leads_to_a_new_list(tmp_path: Path) -> None:
    server, _ = await survives(tmp_path, "watch", *[faults.answer(500)] * 3)
    assert len(server.asked("list")) == 2


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
async def test_a_list_refused_for_now_is_asked_for_again(tmp_path: Path, code: int) -> None:
    await survives(tmp_path, "list", faults.answer(code))


async def test_the_wait_that_a_server_asks_for_is_kept(tmp_path: Path) -> None:
    _, mirror = await survives(tmp_path, "list", faults.answer(429, "TooManyRequests", retry_after=17))
    assert mirror.clock.slept[0] == 17


async def test_missing_rights_are_waited_out_until_somebody_grants_them(tmp_path: Path) -> None:
    await survives(tmp_path, "list", *[faults.answer(403, "Forbidden")] * 4)


async def test_a_list_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    await survives(tmp_path, "list", faults.reset)


async def test_a_list_that_is_not_json_is_asked_for_again(tmp_path: Path) -> None:
    await survives(tmp_path, "list", faults.body(b"<html>sorry</html>"), faults.body(b'{"metadata": 3}'))


async def test_a_list_that_has_no_version_is_asked_for_again(tmp_path: Path) -> None:
    await survives(tmp_path, "list", faults.body(b'{"metadata": {}, "items": null}'))


async def test_a_continue_token_that_expired_starts_the_list_anew(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        for number in range(9):
            server.store.apply(f"api/v1/namespaces/ml/pods/p{number}", pod_json(f"p{number}"))
        server.script("more", faults.answer(410, "Expired"))
        async with watching(server, tmp_path, WatchSettings(page=4)) as mirror:
            await mirror.until_equal()
            assert len(mirror.names()) == 9
    first_pages = [one for one in server.asked("list") if "continue" not in one.query]
    assert len(first_pages) == 2


async def test_a_connection_that_fell_silent_is_given_up(tmp_path: Path) -> None:
    await survives(tmp_path, "watch", faults.silent_stream, settings=WatchSettings(silence_s=0.2))


async def test_nothing_is_a_ghost_and_nothing_missed_after_thirty_seconds_without_a_server(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        for name in ("stays", "changes", "goes"):
            mirror.put(name)
        await mirror.until_equal()
        began = mirror.clock.monotonic()
        await server.down()
        mirror.remove("goes")
        mirror.put("changes", priority=9)
        mirror.put("comes")
        server.store.compact()
        await mirror.until(lambda: mirror.clock.monotonic() - began >= 30)
        assert not mirror.reflector.synced
        assert mirror.names() == {"stays", "changes", "goes"}  # the last that was known, marked as such
        await server.up()
        await mirror.until_equal()
    assert [key for key, old, new in mirror.changes if new is None] == ["ml/goes"]
    assert mirror.reflector.items["ml/changes"].priority == 9
    assert max(mirror.clock.slept) <= 5.0
    assert mirror.clock.slept == sorted(mirror.clock.slept)  # ever more patient


async def test_a_watch_that_stood_quietly_for_long_starts_with_short_pauses_again(tmp_path: Path) -> None:
    """Namespaces and volumes hardly ever change: what went wrong a day ago must not lengthen today's pauses."""
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        await mirror.until(lambda: bool(server.asked("watch")))
        mirror.put("first")
        await mirror.until_equal()  # the watch is open
        for _ in range(6):
            mirror.clock.jump(3600)
            server.cut_watches()
            await mirror.until(lambda: not mirror.reflector.synced)
            await mirror.until(lambda: mirror.reflector.synced)
        assert len(server.asked("list")) == 1
        assert max(mirror.clock.slept) < 0.5


async def test_a_cut_connection_is_known_to_the_owner_at_once(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        await mirror.until(lambda: bool(server.asked("watch")) and mirror.reflector.synced)
        server.script("list", faults.hang)
        server.script("watch", *[faults.reset] * 4)  # two for a failure: aiohttp sends a GET once more
        server.cut_watches()
        await mirror.until(lambda: not server.pending("list"))
        assert not mirror.reflector.synced


async def test_an_odd_object_is_left_out_told_once_and_replaced_by_its_next_good_version(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
            mirror.put_odd("a")
            await mirror.until(lambda: "ml/a" in mirror.reflector.unreadable)
            mirror.put_odd("a")
            mirror.put("b")
            await mirror.until_equal()
            assert mirror.names() == {"b"}
            mirror.put("a")
            await mirror.until_equal()
            assert mirror.names() == {"a", "b"}
            assert not mirror.reflector.unreadable
    assert len(server.asked("watch")) == 1
    assert [one["key"] for one in logs if one["event"] == "object.unreadable"] == ["ml/a"]


async def test_a_good_object_that_turns_odd_is_not_believed_any_more(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        mirror.put("a")
        await mirror.until_equal()
        mirror.put_odd("a")
        await mirror.until_equal()
        assert mirror.names() == set()
        mirror.remove("a")
        await mirror.until(lambda: not mirror.reflector.unreadable)
    key, old, new = mirror.changes[-1]
    assert (key, old is not None, new) == ("ml/a", True, None)


async def test_an_odd_object_in_a_list_does_not_spoil_its_page(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        for number in range(4):
            server.store.apply(f"api/v1/namespaces/ml/pods/p{number}", pod_json(f"p{number}"))
        odd = pod_json("odd", labels={"odd": "yes"}, priority="high")
        server.store.apply("api/v1/namespaces/ml/pods/odd", odd)
        async with watching(server, tmp_path) as mirror:
            await mirror.until_equal()
            assert len(mirror.names()) == 4
            assert set(mirror.reflector.unreadable) == {"ml/odd"}


async def test_events_of_unknown_kind_or_without_a_name_are_passed_over(tmp_path: Path) -> None:
    strange = faults.stream_then_serve(
        line("RENAMED", {"metadata": {"name": "x", "resourceVersion": "100"}}),
        line("ADDED", {"metadata": None}),
        line("BOOKMARK", {}),
        b"\n",
    )
    server, _ = await survives(tmp_path, "watch", strange)
    assert len(server.asked("watch")) == 1


async def test_signs_that_other_readers_take_for_line_ends_do_not_cut_an_event(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        await mirror.until(lambda: bool(server.asked("watch")))
        raw = line("ADDED", pod_json("a")).replace(b"uid-a", "one\u2028two\u0085three".encode())
        server.script("watch", faults.stream_then_serve(raw))
        server.cut_watches()
        await mirror.until(lambda: "ml/a" in mirror.reflector.items)
        assert mirror.reflector.items["ml/a"].key.uid == "one\u2028two\u0085three"


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b'{"type": "ADDED", "object": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", id="nested deeply"),
        pytest.param(b'{"type": "ADDED", "object": {"metadata": {"name": "\xff"}}}\n', id="not UTF-8"),
        pytest.param(b'{"type": "ERROR", "object": {"code": ' + b"9" * 5000 + b"}}\n", id="a huge code"),
    ],
)
async def test_an_event_that_cannot_be_read_does_not_end_the_mirror(tmp_path: Path, event: bytes) -> None:
    await survives(tmp_path, "watch", faults.stream_then_serve(event))
