"""The server of a process, put together: what is open to whom follows from the address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from cdmo.errors import BadSettings
from cdmo.serving.health import Health
from cdmo.serving.server import Server
from cdmo.serving.settings import ServingSettings
from cdmo.serving.start import server_of
from tests.fakes.clock import VirtualClock
from tests.serving.client import get, trusting


class Reviewer:
    async def may_get(self, token: str, path: str) -> bool | None:
        return {"good": True, "poor": False}.get(token)


@asynccontextmanager
async def started(settings: ServingSettings) -> AsyncIterator[Server]:
    registry = CollectorRegistry()
    Gauge("answer", "To everything.", registry=registry).set(42)
    health = Health({"rounds": lambda: ""}, {"pods": lambda: "not synced"})
    server = server_of(settings, health, registry, Reviewer(), "cdmo", VirtualClock())
    task = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_on_loopback_everything_is_open_and_plain() -> None:
    async with started(ServingSettings("127.0.0.1", 0)) as server:
        assert "answer 42.0" in (await get(server, "/metrics")).body
        assert (await get(server, "/readyz")).body == "not ok\npods: not synced\n"


async def test_off_loopback_metrics_need_a_token_and_everything_needs_tls() -> None:
    async with started(ServingSettings("0.0.0.0", 0)) as server:
        for token, status in (("", 401), ("nobody's", 401), ("poor", 403), ("good", 200)):
            assert (await get(server, "/metrics", token=token, tls=trusting())).status == status
        with pytest.raises((ConnectionError, IndexError)):
            await get(server, "/metrics", token="good")


async def test_off_loopback_a_probe_needs_no_token_and_details_do() -> None:
    async with started(ServingSettings("0.0.0.0", 0)) as server:
        assert (await get(server, "/livez", tls=trusting())).body == "ok\n"
        for token, body in (("", "not ok\n"), ("poor", "not ok\n"), ("good", "not ok\npods: not synced\n")):
            assert (await get(server, "/readyz", token=token, tls=trusting())).body == body


def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    settings = ServingSettings("127.0.0.1", 0, missing, missing)
    with pytest.raises(BadSettings, match="cannot be used"):
        server_of(settings, Health({}, {}), CollectorRegistry(), Reviewer(), "cdmo", VirtualClock())
