"""Mirrors, MigNodes, the election and Events on a real API server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import pytest_asyncio
import structlog
from cdmo_harness.control_plane import ControlPlane

from cdmo.api.schema import yaml_text
from cdmo.api.v1alpha1 import (
    GpuLayout,
    Metadata,
    MigNode,
    MigNodeSpec,
    MigNodeStatus,
    OwnerReference,
    PlacedProfile,
    Repartition,
    Summary,
)
from cdmo.errors import AlreadyExists, Conflict, Invalid, NotFound
from cdmo.kube.connect import Connection
from cdmo.kube.port import Event, Involved
from cdmo.kube.resources import NODE, POD, Ask
from cdmo.model.reasons import EventReason
from tests.kube.objects import node_json
from tests.kube.real import LIMIT_S, as_administrator, client_of, create, create_pod, eventually

log = structlog.get_logger(__name__)

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio, pytest.mark.timeout(120)]


@pytest_asyncio.fixture
async def connection(control_plane: ControlPlane) -> AsyncIterator[Connection]:
    """The administrator's."""
    async with as_administrator(control_plane) as opened:
        yield opened


@asynccontextmanager
async def running(*runs: Any) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run these while the block runs."""
    tasks = [asyncio.create_task(one) for one in runs]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_server_tells_its_version(connection: Connection) -> None:
    assert (await connection.check()).startswith("v1.")


async def test_a_mirror_follows_pods_and_survives_a_restart_of_the_api_server(
    connection: Connection, control_plane: ControlPlane
) -> None:
    told = asyncio.Event()
    mirror = client_of(connection).pods(lambda *_: told.set())

    async def until(key: str, there: bool) -> None:
        async with asyncio.timeout(LIMIT_S):
            while (key in mirror.items) is not there:
                told.clear()
                await told.wait()

    async with running(mirror.run()):
        async with asyncio.timeout(LIMIT_S):
            await mirror.wait_synced()
        await create_pod(connection, "before-restart")
        await until("default/before-restart", True)
        await asyncio.to_thread(control_plane.restart_api_server)
        await create_pod(connection, "after-restart")
        await until("default/after-restart", True)
        for name in ("before-restart", "after-restart"):
            await connection.call(Ask("delete", POD, name, "default"), params={"gracePeriodSeconds": "0"})
            await until(f"default/{name}", False)
        assert mirror.synced
        assert not mirror.unreadable


async def test_a_mirror_of_one_node_sees_nothing_else(connection: Connection) -> None:
    await create(connection, NODE, node_json("seen"))
    await create(connection, NODE, node_json("unseen"))
    mirror, _ = client_of(connection).own_node("seen", lambda *_: None)
    async with running(mirror.run()), asyncio.timeout(LIMIT_S):
        await mirror.wait_synced()
        assert set(mirror.items) == {"seen"}


@pytest_asyncio.fixture
async def crd(control_plane: ControlPlane) -> None:
    """MigNodes are known to the API server."""
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", stdin=yaml_text())
    await asyncio.to_thread(
        control_plane.kubectl, "wait", "--for=condition=Established", "crd/mignodes.cdmo.clear.ml", "--timeout=30s"
    )


SPEC = MigNodeSpec(
    observed_revision=3,
    gpus=(GpuLayout(pci_bus_id="00000000:10:00.0", layout=(PlacedProfile(profile_id=9, start=4),)),),
)


@pytest.mark.usefixtures("crd")
async def test_a_mignode_is_made_planned_and_reported(connection: Connection, control_plane: ControlPlane) -> None:
    owner = await create(connection, NODE, node_json("mig-1"))
    reference = OwnerReference(name="mig-1", uid=owner["metadata"]["uid"])
    api = client_of(connection).mig_nodes()
    with pytest.raises(NotFound):
        await api.get("mig-1")
    made = await api.create(MigNode(metadata=Metadata(name="mig-1", owner_references=(reference,))))
    assert made.metadata.owner_references == (reference,)
    with pytest.raises(AlreadyExists):
        await api.create(MigNode(metadata=Metadata(name="mig-1")))
    await asyncio.to_thread(
        control_plane.kubectl, "patch", "mignode", "mig-1", "--type=merge", "-p", '{"spec":{"mode":"Disabled"}}'
    )
    with pytest.raises(Conflict):
        await api.write_spec("mig-1", SPEC, made.metadata.resource_version)
    planned = await api.write_spec("mig-1", SPEC, (await api.get("mig-1")).metadata.resource_version)
    assert (planned.spec.mode, planned.spec.gpus, planned.spec.observed_revision) == ("Disabled", SPEC.gpus, 3)
    cleared = await api.write_spec("mig-1", MigNodeSpec(), planned.metadata.resource_version)
    assert (cleared.spec.gpus, cleared.spec.observed_revision) == ((), 0)


@pytest.mark.usefixtures("crd")
async def test_a_status_that_is_said_without_a_field_has_it_no_more(connection: Connection) -> None:
    api = client_of(connection).mig_nodes()
    await api.create(MigNode(metadata=Metadata(name="mig-2")))
    change = Repartition(started_at="", fenced_seconds=0.5, gpu_seconds=0.2, reload_seconds=0.1, result="Applied")
    first = await api.write_status("mig-2", MigNodeStatus(revision=1, last_repartition=change))
    assert first.status.last_repartition == change
    status = MigNodeStatus(revision=2, summary=Summary(gpus=1, slices="0/2", phase="Ready"))
    second = await api.write_status("mig-2", status)
    assert second.status == status
    assert second.metadata.generation == first.metadata.generation


@pytest.mark.usefixtures("crd")
async def test_a_status_against_the_schema_is_refused_with_the_fields_name(connection: Connection) -> None:
    api = client_of(connection).mig_nodes()
    await api.create(MigNode(metadata=Metadata(name="mig-3")))
    with pytest.raises(Invalid, match=r"status\.revision"):
        await api.write_status("mig-3", MigNodeStatus(revision=-1))


async def test_a_standby_takes_over_at_once_when_the_leader_leaves(connection: Connection) -> None:
    client = client_of(connection)
    first = client.elector("default", "test-election", "first")
    second = client.elector("default", "test-election", "second")
    async with running(first.run()) as (leading,), asyncio.timeout(LIMIT_S):
        await first.wait_leader()
        async with running(second.run()):
            assert not second.is_leader()
            leading.cancel()
            with suppress(asyncio.CancelledError):
                await leading
            left = time.monotonic()
            assert not first.is_leader()
            await second.wait_leader()
            took = time.monotonic() - left
            log.info("standby leads", after_s=round(took, 2))
            assert took < 5


@pytest.mark.parametrize(
    ("involved", "namespace"),
    [
        (Involved("Pod", "train", "default", "uid-p"), "default"),
        (Involved("Node", "gpu-events", uid="uid-n"), "default"),
        (Involved("MigNode", "gpu-events", uid="uid-m"), "default"),
    ],
)
async def test_an_event_is_seen_by_kubectl(
    connection: Connection, control_plane: ControlPlane, involved: Involved, namespace: str
) -> None:
    recorder = client_of(connection).recorder("cdmo-agent", "gpu-events")

    async def seen() -> bool:
        selector = f"--field-selector=involvedObject.uid={involved.uid}"
        said = await asyncio.to_thread(
            control_plane.kubectl, "get", "events", "-n", namespace, selector, "-o", "json"
        )
        items = json.loads(said)["items"]
        return [(one["reason"], one["message"], one["type"]) for one in items] == [
            ("Repartitioned", "two slices were cut", "Normal")
        ]

    async with running(recorder.run()):
        recorder.emit(Event(involved, EventReason.REPARTITIONED, "two slices were cut"))
        recorder.emit(Event(involved, EventReason.REPARTITIONED, "two slices were cut"))
        await eventually(seen)
    assert recorder.dropped == 0
