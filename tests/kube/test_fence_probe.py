"""What proves that an API server refuses bindings, and what does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cdmo.errors import ClusterError, ClusterUnavailable, Denied, NotFound
from cdmo.kube.connect import Connection
from cdmo.kube.fence_probe import refused_as_of
from cdmo.model.names import PROBE_POD
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer, Fault
from tests.fakes.api_store import Refused
from tests.kube.objects import connection_to

pytestmark = pytest.mark.asyncio

FENCE_SAYS = (
    f"pods \"{PROBE_POD}\" is forbidden: ValidatingAdmissionPolicy 'cdmo-fence' with binding 'cdmo-fence' denied "
    "request: node n1 is being repartitioned by CDMO; the pod can be bound to it in a moment (version 4711)"
)
RBAC_SAYS = (
    f'pods "{PROBE_POD}" is forbidden: User "system:serviceaccount:cdmo:cdmo-fence" cannot create resource '
    '"pods/binding" in API group "" in the namespace "default"'
)


@asynccontextmanager
async def asking(folder: Path) -> AsyncIterator[tuple[FakeApiServer, Connection]]:
    """A fake API server and a connection to it."""
    async with FakeApiServer() as server, connection_to(server.url, folder) as connection:
        yield server, connection


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (faults.answer(403, "Forbidden", FENCE_SAYS), 4711),
        (faults.body(json.dumps(Refused(404, "NotFound", "", {"name": PROBE_POD}).body).encode(), 404), None),
    ],
)
async def test_only_the_fences_own_refusal_proves_it(tmp_path: Path, answer: Fault, refused: int | None) -> None:
    async with asking(tmp_path) as (server, connection):
        server.script("post", answer)
        assert await refused_as_of(connection, "n1", server.url) == refused
        (request,) = server.asked("post")
        assert request.path == f"/api/v1/namespaces/default/pods/{PROBE_POD}/binding"
        assert request.query["dryRun"] == "All"
        assert request.json()["target"]["name"] == "n1"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (faults.answer(403, "Forbidden", RBAC_SAYS), Denied),
        (faults.answer(403, "Forbidden", FENCE_SAYS.replace("'cdmo-fence'", "'cdmo-fence-2'")), Denied),
        (faults.answer(401, "Unauthorized"), Denied),
        (faults.answer(404, "NotFound", "page not found"), NotFound),
        (faults.body(b"<html>no such page</html>", 404), NotFound),
        (faults.answer(503), ClusterUnavailable),
        (faults.reset, ClusterUnavailable),
        (faults.body(b"{}", 201), ClusterError),
        (faults.answer(403, "Forbidden", FENCE_SAYS.replace("version", "as of")), ClusterError),
    ],
)
async def test_any_other_answer_proves_nothing(tmp_path: Path, answer: Fault, failure: type[ClusterError]) -> None:
    async with asking(tmp_path) as (server, connection):
        server.script("post", answer)
        with pytest.raises(failure) as caught:
            await refused_as_of(connection, "n1", server.url)
        assert type(caught.value) is failure


async def test_another_server_is_asked_at_its_own_address(tmp_path: Path) -> None:
    async with asking(tmp_path) as (server, connection), FakeApiServer() as other:
        other.script("post", faults.answer(403, "Forbidden", FENCE_SAYS))
        assert await refused_as_of(connection, "n1", other.url)
        assert not server.asked("post")
