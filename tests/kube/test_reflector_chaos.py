"""The mirror behind every fault of the API proxy, on the real API server: nothing lost, nothing invented."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.control_plane import ControlPlane

from cdmo.kube.reflector import Reflector, WatchSettings
from cdmo.kube.resources import POD
from cdmo.kube.slim import pod_info
from cdmo.model.cluster import PodInfo
from cdmo.runtime.clock import SystemClock
from tests.proxied import SEED, through, until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio, pytest.mark.timeout(60)]

LIMIT_S = 40.0  # generous: machines that test are busy
QUICK = WatchSettings(page=3, silence_s=2.0, pause_least_s=0.05, pause_most_s=0.3)
_NUMBERS = itertools.count(1)
Fault = Callable[[ApiProxy], object]


class Writer:
    """Somebody who creates, changes and deletes pods, past the proxy."""

    def __init__(self, control_plane: ControlPlane, namespace: str, seed: int) -> None:
        self.api = control_plane.api
        self.namespace = namespace
        self.created: dict[str, set[str]] = {}  # uids by name
        self.deleted: set[str] = set()  # uids, noted before the server hears of it
        self._living: dict[str, str] = {}
        self._random = random.Random(seed)
        self._numbers = itertools.count()

    def step(self) -> None:
        """One write of whatever kind."""
        kind = self._random.choice(("create", "change", "delete", "again"))
        if kind == "create" or not self._living:
            self.create()
            return
        name = self._random.choice(sorted(self._living))
        if kind == "change":
            change = {"metadata": {"labels": {"changed": str(next(self._numbers))}}}
            self.api.patch(f"{self._pods}/{name}", change)
            return
        self.deleted.add(self._living.pop(name))
        self.api.delete(f"{self._pods}/{name}", grace_seconds=0)
        if kind == "again":
            self._create(name)

    def create(self) -> None:
        """A pod with a name that nobody had."""
        self._create(f"p{next(self._numbers)}")

    def _create(self, name: str) -> None:
        spec = {"containers": [{"name": "c", "image": "example.invalid/app"}], "schedulerName": "nobody"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        uid = str(self.api.create(self._pods, pod)["metadata"]["uid"])
        self.created.setdefault(f"{self.namespace}/{name}", set()).add(uid)
        self._living[name] = uid

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def truth(self) -> dict[str, tuple[str, dict[str, str]]]:
        """Uid and labels of every pod the server has."""
        found = self.api.get(self._pods)["items"]
        return {
            f"{self.namespace}/{each['metadata']['name']}": (
                each["metadata"]["uid"],
                each["metadata"].get("labels", {}),
            )
            for each in found
        }


class Mirror:
    """A running reflector of the writer's pods, and every change it told of."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.changes: list[tuple[str, PodInfo | None, PodInfo | None]] = []
        self.reflector: Reflector[PodInfo]

    def note(self, key: str, old: PodInfo | None, new: PodInfo | None) -> None:
        """The reflector's callback."""
        self.changes.append((key, old, new))

    def equals_server(self) -> bool:
        """Whether the mirror holds what the server does, and believes it."""
        has = {key: (pod.key.uid, dict(pod.labels)) for key, pod in dict(self.reflector.items).items()}
        return self.reflector.synced and has == self.writer.truth()

    def check(self) -> None:
        """Only what was created was seen, only what was deleted is gone, and nothing came back from the dead."""
        gone: set[str] = set()
        for key, old, new in self.changes:
            if new is not None:
                assert new.key.uid in self.writer.created[key], f"{key} was invented"
                assert new.key.uid not in gone, f"{key} came back from the dead"
            if old is not None and (new is None or new.key.uid != old.key.uid):
                assert old.key.uid in self.writer.deleted, f"{key} was lost"
                gone.add(old.key.uid)


@pytest.fixture
async def mirror(proxy: ApiProxy, control_plane: ControlPlane, kubeconfig: Path) -> AsyncIterator[Mirror]:
    """A reflector behind the proxy, of a namespace of its own."""
    namespace = f"mirror-{next(_NUMBERS)}"
    api = control_plane.api
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    await until(lambda: api.answers(account))  # no pod is admitted before
    async with mirroring(proxy, kubeconfig, Writer(control_plane, namespace, SEED)) as made:
        yield made


@asynccontextmanager
async def mirroring(proxy: ApiProxy, kubeconfig: Path, writer: Writer) -> AsyncIterator[Mirror]:
    """A mirror that has listed once."""
    made = Mirror(writer)
    async with through(proxy, kubeconfig, writer.namespace) as connection:
        made.reflector = Reflector(
            connection,
            POD,
            pod_info,
            made.note,
            clock=SystemClock(),
            random=random.Random(SEED).random,
            namespace=writer.namespace,
            settings=QUICK,
        )
        task = asyncio.create_task(made.reflector.run())
        try:
            async with asyncio.timeout(LIMIT_S):
                await made.reflector.wait_synced()
            await until(lambda: bool(proxy.streams(client=writer.namespace)), LIMIT_S)
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until_equal(mirror: Mirror) -> None:
    """Wait until the mirror holds what the server does."""
    await until(mirror.equals_server, LIMIT_S)


FAULTS: dict[str, Fault] = {
    "streams end": lambda proxy: proxy.cut_streams(),
    "streams are reset": lambda proxy: proxy.reset_streams(),
    "streams end within an event": lambda proxy: proxy.cut_within_event(),
    "410 inside the stream": lambda proxy: proxy.expire_streams(),
    "410 for lists and watches": lambda proxy: (proxy.answer(410, times=2), proxy.cut_streams()),
    "410 for a list's second page": lambda proxy: (
        proxy.answer(410, verbs=["watch"], times=1),
        proxy.answer(410, verbs=["list"], share=0.4, times=2),
        proxy.cut_streams(),
    ),
    "429 with Retry-After": lambda proxy: (proxy.answer(429, retry_after=1, times=1), proxy.reset_streams()),
    "500 for a share": lambda proxy: (proxy.answer(500, share=0.6, times=3), proxy.reset_streams()),
    "503 for a share": lambda proxy: (proxy.answer(503, share=0.6, times=3), proxy.cut_streams()),
    "streams stall and go on": lambda proxy: proxy.stall_streams(0.3),
    "streams stall and are reset": lambda proxy: (proxy.stall_streams(), proxy.reset_streams()),
    "answers are slow": lambda proxy: (proxy.slow(0.4), proxy.cut_streams()),
    "requests come late": lambda proxy: (proxy.slow(0.4, before=True), proxy.cut_streams()),
    "answers are lost": lambda proxy: (
        proxy.lose_answers(verbs=["list", "watch"], times=2),
        proxy.expire_streams(),
    ),
    "requests vanish": lambda proxy: (proxy.black_hole(times=1), proxy.reset_streams()),
    "connections are swallowed": lambda proxy: (proxy.swallow_connections(seconds=0.3), proxy.drop_connections()),
    "connections are refused": lambda proxy: (proxy.refuse_connections(seconds=0.3), proxy.drop_connections()),
    "connections are reset": lambda proxy: proxy.drop_connections(),
    "bookmarks are withheld": lambda proxy: proxy.withhold_bookmarks(),
    "the last event comes twice": lambda proxy: proxy.replay_events(1),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_behind_every_fault_the_mirror_loses_and_invents_nothing(
    fault: str, proxy: ApiProxy, mirror: Mirror
) -> None:
    for _ in range(12):
        await asyncio.to_thread(mirror.writer.create)
    for _ in range(3):
        await until_equal(mirror)  # what is deleted now is known to the mirror
        await asyncio.to_thread(FAULTS[fault], proxy)
        for _ in range(6):
            await asyncio.to_thread(mirror.writer.step)
    await asyncio.to_thread(proxy.clear)
    await until_equal(mirror)
    await asyncio.to_thread(mirror.writer.step)
    await until_equal(mirror)
    mirror.check()


async def test_behind_all_faults_in_any_order_the_mirror_loses_and_invents_nothing(
    proxy: ApiProxy, mirror: Mirror
) -> None:
    draw = random.Random(SEED)
    for _ in range(25):
        await asyncio.to_thread(FAULTS[draw.choice(sorted(FAULTS))], proxy)
        for _ in range(draw.randrange(6)):
            await asyncio.to_thread(mirror.writer.step)
        if draw.random() < 0.3:
            await asyncio.to_thread(proxy.clear)
    await asyncio.to_thread(proxy.clear)
    await until_equal(mirror)
    mirror.check()
    assert len(proxy.counts()) >= 10


async def test_a_watch_that_stalls_is_noticed_and_taken_up_again(proxy: ApiProxy, mirror: Mirror) -> None:
    """The connection stays open, no byte comes: only the silence tells."""
    assert proxy.stall_streams(clients=[mirror.writer.namespace]) == 1
    for _ in range(5):
        await asyncio.to_thread(mirror.writer.step)
    assert mirror.reflector.synced
    await until(lambda: not mirror.reflector.synced, LIMIT_S)
    await until_equal(mirror)  # without anything being healed
    mirror.check()


async def test_events_that_come_again_leave_the_mirror_equal(proxy: ApiProxy, mirror: Mirror) -> None:
    for _ in range(12):
        await asyncio.to_thread(mirror.writer.step)
    await until_equal(mirror)
    assert proxy.replay_events(30, clients=[mirror.writer.namespace]) == 1
    await asyncio.to_thread(mirror.writer.step)
    await until_equal(mirror)


async def test_a_mirror_that_was_cut_off_knows_that_it_is_and_catches_up(proxy: ApiProxy, mirror: Mirror) -> None:
    proxy.cut_off(mirror.writer.namespace)
    for _ in range(10):
        await asyncio.to_thread(mirror.writer.step)
    await until(lambda: not mirror.reflector.synced, LIMIT_S)
    proxy.clear()
    await until_equal(mirror)
    mirror.check()


async def test_a_server_that_restarts_under_the_mirror_costs_it_nothing(
    proxy: ApiProxy, mirror: Mirror, control_plane: ControlPlane
) -> None:
    for _ in range(5):
        await asyncio.to_thread(mirror.writer.step)
    await asyncio.to_thread(control_plane.stop_api_server, grace=0)
    await until(lambda: not mirror.reflector.synced, LIMIT_S)
    await asyncio.to_thread(control_plane.start_api_server)
    for _ in range(5):
        await asyncio.to_thread(mirror.writer.step)
    await until_equal(mirror)
    mirror.check()
