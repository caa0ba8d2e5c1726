"""Faults between CDMO's processes and the API server, by the API proxy. Nodes and the control plane are not hit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.chaos.schedule import FaultKind, Planned, Where
from cdmo_harness.chaos.stage import CONTROLLERS, Stage

_BETWEEN = (0.3, 1.5)  # seconds from one blow to the streams to the next

# Each of these lets faults stand and returns their numbers.
Standing = Callable[[ApiProxy, list[str], Random], tuple[int, ...]]
# Each of these hits the streams that are open at that moment.
Blow = Callable[[ApiProxy, list[str], Random], object]


def _clients(stage: Stage, random: Random) -> list[str]:
    """One process, or now and then all of them."""
    everybody = [f"agent-{name}" for name in stage.nodes] + list(CONTROLLERS)
    return everybody if random.random() < 0.3 else [random.choice(everybody)]


def _standing(begin: Standing) -> Callable[[Stage, Planned], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def act(stage: Stage, fault: Planned) -> AsyncIterator[None]:
        random = Random(fault.seed)
        numbers = await asyncio.to_thread(begin, stage.proxy, _clients(stage, random), random)
        try:
            yield
        finally:
            for number in numbers:
                await asyncio.to_thread(stage.proxy.remove, number)

    return act


def _repeated(blow: Blow) -> Callable[[Stage, Planned], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def act(stage: Stage, fault: Planned) -> AsyncIterator[None]:
        random = Random(fault.seed)
        clients = _clients(stage, random)

        async def keep_hitting() -> None:
            while True:
                await asyncio.to_thread(blow, stage.proxy, clients, random)
                await asyncio.sleep(random.uniform(*_BETWEEN))

        task = asyncio.create_task(keep_hitting())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return act


def _refused(proxy: ApiProxy, clients: list[str], random: Random) -> tuple[int, ...]:
    """Half of the requests get a 429, a 500, a 503 or a 504."""
    code = random.choice((429, 500, 503, 504))
    return (proxy.answer(code, clients=clients, share=0.5, retry_after=1 if code in (429, 503) else None),)


def _expired(proxy: ApiProxy, clients: list[str], random: Random) -> tuple[int, ...]:
    """Half of the lists and watches are answered with 410 at once; `expire_streams` is the other way."""
    return (proxy.answer(410, clients=clients, share=0.5),)


def _answers_lost(proxy: ApiProxy, clients: list[str], random: Random) -> tuple[int, ...]:
    return (proxy.lose_answers(clients=clients, share=0.5),)


def _slow(proxy: ApiProxy, clients: list[str], random: Random) -> tuple[int, ...]:
    seconds = random.choice((0.3, 1.0, 4.0))
    return (
        proxy.slow(seconds, clients=clients, share=0.5),
        proxy.slow(seconds, clients=clients, share=0.3, before=True),
    )


def _unanswered(proxy: ApiProxy, clients: list[str], random: Random) -> tuple[int, ...]:
    return (proxy.black_hole(clients=clients, share=0.3), proxy.swallow_connections(clients=clients, share=0.5))


def _without_bookmarks(proxy: ApiProxy, clients: list[str], random: Random) -> tuple[int, ...]:
    return (proxy.withhold_bookmarks(clients=clients),)


def _stalled(proxy: ApiProxy, clients: list[str], random: Random) -> object:
    return proxy.stall_streams(random.uniform(0.5, 5.0), clients=clients)


def _replayed(proxy: ApiProxy, clients: list[str], random: Random) -> object:
    return proxy.replay_events(random.randint(1, 30), clients=clients)


_PROXY = ("network",)

NETWORK = (
    FaultKind(
        "watches cut",
        _repeated(lambda proxy, clients, _: proxy.cut_streams(clients=clients)),
        Where.CLUSTER,
        (1.0, 5.0),
        ("streams",),
    ),
    FaultKind(
        "watches reset",
        _repeated(lambda proxy, clients, _: proxy.reset_streams(clients=clients)),
        Where.CLUSTER,
        (1.0, 5.0),
        ("streams",),
    ),
    FaultKind(
        "watches cut in an event",
        _repeated(lambda proxy, clients, _: proxy.cut_within_event(clients=clients)),
        Where.CLUSTER,
        (1.0, 5.0),
        ("streams",),
    ),
    FaultKind(
        "watches expired (410)",
        _repeated(lambda proxy, clients, _: proxy.expire_streams(clients=clients)),
        Where.CLUSTER,
        (1.0, 5.0),
        ("streams",),
    ),
    FaultKind("watches stalled", _repeated(_stalled), Where.CLUSTER, (2.0, 8.0), ("streams",)),
    FaultKind("watch events repeated", _repeated(_replayed), Where.CLUSTER, (1.0, 5.0), ("streams",)),
    FaultKind("no bookmarks", _standing(_without_bookmarks), Where.CLUSTER, (2.0, 8.0), ("bookmarks",)),
    FaultKind("lists refused (410)", _standing(_expired), Where.CLUSTER, (2.0, 6.0), _PROXY),
    FaultKind("requests refused (429, 5xx)", _standing(_refused), Where.CLUSTER, (2.0, 8.0), _PROXY, weight=2),
    FaultKind("answers lost", _standing(_answers_lost), Where.CLUSTER, (2.0, 8.0), _PROXY, weight=2),
    FaultKind("answers late", _standing(_slow), Where.CLUSTER, (2.0, 8.0), _PROXY),
    FaultKind("requests unanswered", _standing(_unanswered), Where.CLUSTER, (2.0, 8.0), _PROXY),
)
