"""The real scheduler shows by the witness that it has heard of a change, and shows nothing while it has not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import pytest
import pytest_asyncio
from cdmo_harness.binaries import Component
from cdmo_harness.control_plane import ControlPlane

from cdmo.errors import ClusterError, Conflict, NotFound
from cdmo.kube.connect import Connection
from cdmo.kube.resources import NAMESPACE as NAMESPACE_KIND
from cdmo.kube.resources import NODE, POD, Ask
from cdmo.kube.witness import KubeWitness
from cdmo.model.names import CHANGE_LABEL, SCHEDULER, witness_pod
from tests.kube.objects import node_json
from tests.kube.real import as_administrator, client_of, create, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio, pytest.mark.timeout(120)]

NAMESPACE = "witnesses"
FIRST, SECOND = "0000000000000001", "0000000000000002"


@pytest_asyncio.fixture
async def connection(control_plane: ControlPlane) -> AsyncIterator[Connection]:
    async with as_administrator(control_plane) as opened:
        with suppress(ClusterError):  # an earlier test made it
            await create(opened, NAMESPACE_KIND, {"metadata": {"name": NAMESPACE}})
        yield opened


@contextmanager
def paused(control_plane: ControlPlane) -> Iterator[None]:
    scheduler = control_plane.process(Component.SCHEDULER)
    scheduler.pause()
    try:
        yield
    finally:
        scheduler.resume()


async def begun(connection: Connection, node: str, change: str) -> None:
    await client_of(connection).fence().set_labels(node, {CHANGE_LABEL: change})


async def asked(connection: Connection, node: str, change: str) -> KubeWitness:
    """The witness of a change, once the namespace has the account that every pod needs."""
    witness = KubeWitness(connection, NAMESPACE, SCHEDULER)

    async def made() -> bool:
        try:
            await witness.call(node, change)
        except Conflict:
            return False
        except ClusterError as error:
            assert "serviceaccount" in str(error)
            return False
        return True

    await eventually(made)
    return witness


async def test_a_scheduler_that_has_heard_shows_it(connection: Connection) -> None:
    await create(connection, NODE, node_json("heard", taints=[{"key": "gpu", "effect": "NoExecute"}]))
    await begun(connection, "heard", FIRST)
    witness = await asked(connection, "heard", FIRST)
    await eventually(lambda: witness.has_heard("heard", FIRST))
    await witness.dismiss("heard")


async def test_a_scheduler_that_stands_still_shows_nothing_until_it_goes_on(
    connection: Connection, control_plane: ControlPlane
) -> None:
    await create(connection, NODE, node_json("late"))
    await begun(connection, "late", FIRST)
    with paused(control_plane):
        await begun(connection, "late", SECOND)
        witness = await asked(connection, "late", SECOND)
        assert not await witness.has_heard("late", SECOND)
    await eventually(lambda: witness.has_heard("late", SECOND))
    await witness.dismiss("late")


async def test_what_the_scheduler_knew_of_an_earlier_change_is_no_proof(connection: Connection) -> None:
    """It judges the witness by a Node that carries another change's word, and is asked again when that changes."""
    await create(connection, NODE, node_json("earlier"))
    await begun(connection, "earlier", FIRST)
    witness = await asked(connection, "earlier", SECOND)

    async def judged() -> bool:
        pod = await connection.call(Ask("get", POD, witness_pod("earlier"), NAMESPACE))
        return b"Unschedulable" in pod

    await eventually(judged)
    assert not await witness.has_heard("earlier", SECOND)
    await begun(connection, "earlier", SECOND)
    await eventually(lambda: witness.has_heard("earlier", SECOND))
    await witness.dismiss("earlier")


async def test_a_witness_that_was_left_behind_is_replaced(connection: Connection) -> None:
    await create(connection, NODE, node_json("twice"))
    await begun(connection, "twice", FIRST)
    witness = await asked(connection, "twice", FIRST)
    await eventually(lambda: witness.has_heard("twice", FIRST))
    await begun(connection, "twice", SECOND)
    await witness.call("twice", SECOND)
    assert not await witness.has_heard("twice", FIRST)
    await eventually(lambda: witness.has_heard("twice", SECOND))
    await witness.dismiss("twice")
    await witness.dismiss("twice")
    with pytest.raises(NotFound):
        await witness.has_heard("twice", SECOND)


async def test_the_witness_passes_the_strictest_pod_security(connection: Connection) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await create(connection, NAMESPACE_KIND, {"metadata": {"name": "strict", "labels": labels}})
    await create(connection, NODE, node_json("strict"))
    witness = KubeWitness(connection, "strict", SCHEDULER)

    async def made() -> bool:
        try:
            await witness.call("strict", FIRST)
        except ClusterError as error:
            assert "serviceaccount" in str(error)
            return False
        return True

    await eventually(made)
    await witness.dismiss("strict")
