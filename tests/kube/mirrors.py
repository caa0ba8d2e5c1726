"""A reflector on a fake API server, with everything a test wants to see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cdmo.kube.reflector import Reflector, WatchSettings
from cdmo.kube.resources import POD
from cdmo.kube.slim import pod_info
from cdmo.model.cluster import PodInfo
from tests.fakes.api_server import FakeApiServer
from tests.fakes.api_store import Address
from tests.fakes.clock import HastyClock
from tests.kube.objects import POD_PATH, connection_to, pod_json

LIMIT_S = 8.0  # for things that take milliseconds


class Watched:
    """A running mirror of a fake server's pods."""

    def __init__(self, server: FakeApiServer, clock: HastyClock, reflector: Reflector[PodInfo]) -> None:
        self.server = server
        self.clock = clock
        self.reflector = reflector
        self.changes: list[tuple[str, PodInfo | None, PodInfo | None]] = []

    def note(self, key: str, old: PodInfo | None, new: PodInfo | None) -> None:
        """The reflector's callback."""
        self.changes.append((key, old, new))

    def names(self) -> set[str]:
        """Names of the pods in the mirror."""
        return {key.removeprefix("ml/") for key in self.reflector.items}

    def equals_server(self) -> bool:
        """Whether the mirror holds exactly what the server does, and knows it."""
        wanted = {
            f"{one.namespace}/{one.name}": str(content["metadata"]["uid"])
            for one, content in self.server.store.objects.items()
            if Address.parse("api/v1/pods").holds(one) and "odd" not in content["metadata"].get("labels", {})
        }
        have = {key: pod.key.uid for key, pod in self.reflector.items.items()}
        return have == wanted and self.reflector.synced

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on the mirror or the server."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110  (of server, mirror or clock: no one event stands for all)
                await asyncio.sleep(0)

    async def until_equal(self) -> None:
        """Wait until the mirror holds what the server does."""
        await self.until(self.equals_server)

    def put(self, name: str, uid: str = "", **spec: Any) -> None:
        """Create or change a pod on the server."""
        self.server.store.apply(f"{POD_PATH}/{name}", pod_json(name, uid=uid, **spec))

    def put_odd(self, name: str) -> None:
        """Create or change a pod so that nobody can read it."""
        odd = pod_json(name, uid="odd", labels={"odd": "yes"}, containers="none of your business")
        self.server.store.apply(f"{POD_PATH}/{name}", odd)

    def remove(self, name: str) -> None:
        """Delete a pod on the server."""
        self.server.store.delete(f"{POD_PATH}/{name}")


@asynccontextmanager
async def watching(
    server: FakeApiServer, folder: Path, settings: WatchSettings | None = None
) -> AsyncIterator[Watched]:
    """Mirror the server's pods while the block runs."""
    clock = HastyClock()
    async with connection_to(server.url, folder) as connection:
        reflector = Reflector(
            connection,
            POD,
            pod_info,
            lambda *change: watched.note(*change),
            clock=clock,
            random=lambda: 0.5,
            settings=settings or WatchSettings(),
        )
        watched = Watched(server, clock, reflector)
        task = asyncio.create_task(reflector.run())
        try:
            yield watched
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
