"""The mirror: what a good server gives it, and what it tells its owner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cdmo.kube.reflector import Reflector, WatchSettings
from cdmo.kube.resources import POD
from cdmo.kube.slim import pod_info
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.fakes.api_store import line
from tests.fakes.clock import HastyClock
from tests.kube.mirrors import watching
from tests.kube.objects import connection_to, pod_json

pytestmark = pytest.mark.asyncio


async def test_what_is_there_is_listed_and_what_happens_is_followed(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        mirror.put("a")
        await mirror.until_equal()
        mirror.put("b")
        mirror.put("a", priority=7)
        await mirror.until(lambda: len(mirror.changes) == 3)
        mirror.remove("a")
        await mirror.until_equal()
        assert mirror.names() == {"b"}
    kinds = [(key, old is not None, new is not None) for key, old, new in mirror.changes]
    assert kinds == [
        ("ml/a", False, True),
        ("ml/b", False, True),
        ("ml/a", True, True),
        ("ml/a", True, False),
    ]
    assert not mirror.reflector.synced


async def test_a_long_list_comes_in_pages_and_is_whole(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        for number in range(23):
            server.store.apply(f"api/v1/namespaces/ml/pods/p{number}", pod_json(f"p{number}"))
        async with watching(server, tmp_path, WatchSettings(page=5)) as mirror:
            await mirror.reflector.wait_synced()
            assert len(mirror.names()) == 23
            assert len(server.asked("list")) == 5


async def test_a_list_is_a_quorum_read_and_a_watch_asks_for_bookmarks_and_an_end(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        await mirror.until(lambda: bool(server.asked("watch")))
    assert "resourceVersion" not in server.asked("list")[0].query
    watch = server.asked("watch")[0].query
    assert watch["allowWatchBookmarks"] == "true"
    assert watch["resourceVersion"] == "100"
    assert 240 <= int(watch["timeoutSeconds"]) < 300


async def test_an_update_that_changes_nothing_of_interest_is_not_told(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        mirror.put("a")
        await mirror.until_equal()
        mirror.put("a", terminationGracePeriodSeconds=3)
        mirror.put("b")
        await mirror.until_equal()
    assert [key for key, _, _ in mirror.changes] == ["ml/a", "ml/b"]


async def test_a_pod_made_anew_under_its_old_name_is_a_change(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        mirror.put("a", uid="first")
        await mirror.until_equal()
        await server.down()
        mirror.remove("a")
        mirror.put("a", uid="second")
        server.store.compact()
        await server.up()
        await mirror.until_equal()
    _, old, new = mirror.changes[-1]
    assert old is not None and new is not None
    assert (old.key.uid, new.key.uid) == ("first", "second")


async def test_whoever_waits_for_the_whole_truth_is_told_after_each_break_also_when_nothing_changed(
    tmp_path: Path,
) -> None:
    told: list[bool] = []
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        mirror.reflector.when_synced(lambda: told.append(mirror.reflector.synced))
        mirror.put("a")
        await mirror.until_equal()
        assert told == [True], "listed, and watched without a break"
        await server.down()
        await mirror.until(lambda: not mirror.reflector.synced)
        await server.up()
        await mirror.until(lambda: len(told) == 2)
    assert told == [True, True]
    assert [key for key, _, _ in mirror.changes] == ["ml/a"]


async def test_a_bookmark_moves_the_version_that_the_next_watch_starts_from(tmp_path: Path) -> None:
    bookmark = line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "4711"}})
    async with FakeApiServer() as server:
        server.script("watch", faults.stream(bookmark))
        async with watching(server, tmp_path) as mirror:
            await mirror.until(lambda: len(server.asked("watch")) == 2)
    assert server.asked("watch")[1].query["resourceVersion"] == "4711"
    assert len(server.asked("list")) == 1


async def test_each_mirror_handed_out_tells_its_reader_what_changed_since_it_last_asked(tmp_path: Path) -> None:
    async with FakeApiServer() as server, watching(server, tmp_path) as mirror:
        mirror.put("a")
        await mirror.until_equal()
        one, other = mirror.reflector.mirror(), mirror.reflector.mirror()
        assert one.synced()
        assert one.changed() == {"ml/a"}
        mirror.put("b")
        await mirror.until_equal()
        assert set(one.items()) == {"ml/a", "ml/b"}
        assert one.changed() == {"ml/b"}
        assert one.changed() == set()
        assert other.changed() == {"ml/a", "ml/b"}


async def test_selector_and_namespace_reach_the_server(tmp_path: Path) -> None:
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        reflector = Reflector(
            connection,
            POD,
            pod_info,
            lambda *_: None,
            clock=HastyClock(),
            random=lambda: 0.5,
            namespace="ml",
            field_selector="spec.nodeName=n1",
        )
        task = asyncio.create_task(reflector.run())
        await reflector.wait_synced()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    asked = server.asked("list")[0]
    assert asked.path == "/api/v1/namespaces/ml/pods"
    assert asked.query["fieldSelector"] == "spec.nodeName=n1"
