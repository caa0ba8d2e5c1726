"""What an API server says, through the code that asks: lists, watches, leases, the fence's own calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import msgspec

from cdmo.errors import ClusterError
from cdmo.kube.connect import Connection
from cdmo.kube.fence_api import KubeFence
from cdmo.kube.lease import LeaseElector
from cdmo.kube.mignode_api import KubeMigNodes, mig_node
from cdmo.kube.reflector import Reflector
from cdmo.kube.resources import MIG_NODE, POD, Ask
from cdmo.kube.slim import pod_info
from tests.fakes.clock import HastyClock
from tests.fuzz import seeds
from tests.fuzz.mutate import Json
from tests.fuzz.target import Over, Run, Target

EMPTY = b'{"metadata":{"resourceVersion":"5"},"items":[]}'
MOST_CALLS = 6


class Wire:
    """A connection on which every answer is given beforehand; it ends the test when asked too often."""

    server = "https://10.0.0.1:6443"

    def __init__(self, answer: bytes, stream: bytes = b"", piece: int = 0) -> None:
        self._answer = answer
        self._stream = stream
        self._piece = piece or len(stream) + 1
        self._calls = 0

    async def call(self, ask: Ask, **_: Any) -> bytes:
        self._count()
        return self._answer

    @asynccontextmanager
    async def stream(
        self, ask: Ask, params: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._count()
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._stream), self._piece):
            yield self._stream[start : start + self._piece]

    def _count(self) -> None:
        self._calls += 1
        if self._calls > MOST_CALLS:
            raise Over


class Patience(HastyClock):
    """A clock that ends the test after a few pauses."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if len(self.slept) > 3:
            raise Over


def _awaited(work: Callable[[bytes], Awaitable[bool]]) -> Callable[[Path], AbstractContextManager[Run]]:
    """One event loop for all inputs of a target."""

    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        with asyncio.Runner() as runner:
            yield lambda content: runner.get_loop().run_until_complete(work(content))

    return prepare


async def _mirrored(wire: Wire) -> bool:
    """The reflector follows whatever comes; only the end of the test ends it."""
    mirror: Reflector[Any] = Reflector(
        cast("Connection", wire), POD, pod_info, lambda key, old, new: None, clock=Patience(), random=lambda: 0.5
    )
    with suppress(Over):
        await mirror.run()
    assert not mirror.synced
    assert all(key and each.key.name for key, each in mirror.items.items())
    return bool(mirror.items)


async def _list(content: bytes) -> bool:
    return await _mirrored(Wire(content))


async def _watch(content: bytes) -> bool:
    pieces = random.Random(len(content)).choice((1, 7, 100, 0)) if len(content) < 5000 else 4096
    return await _mirrored(Wire(EMPTY, content, pieces))


def _lists() -> list[Json | bytes]:
    return [{"metadata": {"resourceVersion": "5", "continue": ""}, "items": seeds.pods()}, EMPTY]


def _event(kind: str, item: Json) -> bytes:
    return msgspec.json.encode({"type": kind, "object": item}) + b"\n"


def _watches() -> list[Json | bytes]:
    bookmark = {"kind": "Pod", "metadata": {"resourceVersion": "9"}}
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    pods = seeds.pods()
    stream = b"".join(
        [*(_event("ADDED", each) for each in pods), _event("MODIFIED", pods[0]), _event("DELETED", pods[1])]
    )
    single = {"type": "ADDED", "object": pods[0]}
    return [stream, stream + _event("BOOKMARK", bookmark), _event("ERROR", gone), single]


async def _lease(content: bytes) -> bool:
    """Taking part never ends, and a Lease that cannot be read makes nobody a leader."""
    elector = LeaseElector(
        cast("Connection", Wire(content)), "cdmo", "cdmo-controller", "me", clock=Patience(), random=lambda: 0.5
    )
    with suppress(Over):
        await elector.run()
    return elector.terms > 0


def _leases() -> list[Json]:
    held = {
        "holderIdentity": "other",
        "leaseDurationSeconds": 1,
        "acquireTime": "2026-01-02T03:04:05.000000Z",
        "renewTime": "2026-01-02T03:04:05.000000Z",
        "leaseTransitions": 3,
    }
    metadata = {"name": "cdmo-controller", "resourceVersion": "7"}
    return [{"metadata": metadata, "spec": held}, {"metadata": metadata, "spec": {**held, "holderIdentity": "me"}}]


async def _fence(content: bytes) -> bool:
    """A node that is to be changed: a value, or a failure that stops the change."""
    fence = KubeFence(cast("Connection", Wire(content)), Patience(), lambda: 0.5)
    read = 0
    for ask in (
        lambda: fence.node("gpu-1"),
        lambda: fence.pods_on("gpu-1"),
        lambda: fence.set_taint("gpu-1", "cdmo.clear.ml/repartitioning", "NoSchedule"),
        lambda: fence.remove_taint("gpu-1", "a"),
        fence.api_servers,
    ):
        try:
            answer = await ask()
        except ClusterError as error:
            assert str(error).isprintable()
        except Over:
            pass
        else:
            read += 1
            if isinstance(answer, tuple) and answer and isinstance(answer[0], str):
                assert all(each.startswith("https://") and each.isprintable() for each in answer)
    return read > 0


def _fences() -> list[Json]:
    endpoint = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}],
        "ports": [{"name": "https", "port": 6443}],
    }
    node = seeds.nodes()[2]
    node["metadata"]["resourceVersion"] = "5"
    metadata = {"resourceVersion": "5"}
    return [node, {"metadata": metadata, "items": seeds.pods()}, {"metadata": metadata, "items": [endpoint]}]


async def _mignodes(content: bytes) -> bool:
    api = KubeMigNodes(cast("Connection", Wire(content)))
    read = 0
    for ask in (api.list, lambda: api.get("gpu-1")):
        try:
            await ask()
        except ClusterError as error:
            assert str(error).isprintable()
        else:
            read += 1
    mirror: Reflector[Any] = Reflector(
        cast("Connection", Wire(content)),
        MIG_NODE,
        mig_node,
        lambda key, old, new: None,
        clock=Patience(),
        random=lambda: 0.5,
    )
    with suppress(Over):
        await mirror.run()
    return read > 0


TARGETS = (
    Target("list", 4, _lists, _awaited(_list)),
    Target("watch", 8, _watches, _awaited(_watch)),
    Target("lease", 4, _leases, _awaited(_lease)),
    Target("fence", 5, _fences, _awaited(_fence)),
    Target(
        "mignodelist",
        3,
        lambda: [{"metadata": {"resourceVersion": "5"}, "items": seeds.mignodes()}, *seeds.mignodes()],
        _awaited(_mignodes),
    ),
)
