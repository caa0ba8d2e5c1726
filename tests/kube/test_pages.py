"""Lists come whole, and end."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdmo.errors import ClusterUnavailable, Expired
from cdmo.kube import pages as module
from cdmo.kube.pages import pages
from cdmo.kube.resources import POD, Ask
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.kube.objects import POD_PATH, connection_to, pod_json

pytestmark = pytest.mark.asyncio

ASK = Ask("list", POD)


def put(server: FakeApiServer, count: int) -> None:
    for number in range(count):
        server.store.apply(f"{POD_PATH}/p{number}", pod_json(f"p{number}"))


async def sizes(server: FakeApiServer, folder: Path) -> list[int]:
    """How many objects each page of two has."""
    async with connection_to(server.url, folder) as connection:
        return [len(page.items or ()) async for page in pages(connection, ASK, {"limit": "2"})]


async def test_every_page_comes_once(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        put(server, 5)
        assert await sizes(server, tmp_path) == [2, 2, 1]
        assert [each.query["limit"] for each in server.asked("list")] == ["2"] * 3


async def test_a_list_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 3)
    async with FakeApiServer() as server:
        put(server, 6)
        assert await sizes(server, tmp_path) == [2, 2, 2]
        put(server, 7)
        with pytest.raises(ClusterUnavailable, match="could not list pods: the list has no end after 3 pages"):
            await sizes(server, tmp_path)


async def test_a_token_that_expired_is_told(tmp_path: Path) -> None:
    async with FakeApiServer() as server:
        put(server, 3)
        server.script("more", faults.answer(410, "Expired"))
        with pytest.raises(Expired):
            await sizes(server, tmp_path)
