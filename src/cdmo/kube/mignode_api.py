"""The MigNodeApi on a real API server, and MigNode <-> JSON.

Bodies are written out field by field where a default would otherwise be left out of them: a merge patch without
`observedRevision` would keep the old one, an object without `kind` is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import MigNode, MigNodeSpec, MigNodeStatus
from cdmo.errors import Conflict
from cdmo.kube.connect import JSON_PATCH, MERGE_PATCH, Connection
from cdmo.kube.errors import translate
from cdmo.kube.resources import MIG_NODE, Ask
from cdmo.kube.wire import decode_page

_decode = decoder(MigNode)


def mig_node(raw: bytes | msgspec.Raw) -> MigNode:
    """A MigNode from its JSON, checked against its types. Raises msgspec.ValidationError with the field's path."""
    return _decode(raw)


class KubeMigNodes:
    """MigNodes, by node name (see `cdmo.kube.port.MigNodeApi`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, name: str) -> MigNode:
        """The MigNode of this node."""
        ask = Ask("get", MIG_NODE, name)
        return _read(await self._connection.call(ask), ask)

    async def list(self) -> list[MigNode]:
        """Every MigNode, by name. There is one a GPU node, so one page holds them all."""
        ask = Ask("list", MIG_NODE)
        body = await self._connection.call(ask)
        try:
            nodes = [_decode(each) for each in decode_page(body).items or ()]
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        return sorted(nodes, key=lambda each: each.metadata.name)

    async def create(self, node: MigNode) -> MigNode:
        """Create it with its spec; a status is written by write_status alone (it is a subresource)."""
        ask = Ask("create", MIG_NODE, node.metadata.name)
        owners = [
            {"apiVersion": one.api_version, "kind": one.kind, "name": one.name, "uid": one.uid}
            for one in node.metadata.owner_references
        ]
        body = {
            "apiVersion": MIG_NODE.api_version,
            "kind": MIG_NODE.kind,
            "metadata": {"name": node.metadata.name, "ownerReferences": owners},
            "spec": {"mode": node.spec.mode, **_layouts(node.spec)},
        }
        return _read(await self._connection.call(ask, body=msgspec.json.encode(body)), ask)

    async def write_spec(self, name: str, spec: MigNodeSpec, resource_version: str) -> MigNode:
        """Replace `spec.gpus` and `spec.observedRevision`, never `spec.mode`. Raises Conflict when the object is
        no longer at `resource_version`."""
        ask = Ask("patch", MIG_NODE, name)
        if not resource_version:  # the API server would take that as "whatever there is"
            raise Conflict(f"could not {ask}: the version it was planned from is not known", hint="read it first")
        body = msgspec.json.encode({"metadata": {"resourceVersion": resource_version}, "spec": _layouts(spec)})
        return _read(await self._connection.call(ask, body=body, content_type=MERGE_PATCH), ask)

    async def write_status(self, name: str, status: MigNodeStatus) -> MigNode:
        """Replace the whole status.

        A JSON patch `add` of /status puts the new value in the old one's place, so that fields which are no longer
        said are gone. A merge patch would keep them; a PUT would need the object's version and lose against every
        write of the controller, although the agent alone writes this part.
        """
        ask = Ask("patch", MIG_NODE, name, subresource="status")
        body = msgspec.json.encode([{"op": "add", "path": "/status", "value": status}])
        return _read(await self._connection.call(ask, body=body, content_type=JSON_PATCH), ask)


def _layouts(spec: MigNodeSpec) -> dict[str, Any]:
    """The controller's part of a spec, every field said."""
    # The list of GPUs is replaced whole: what an entry does not say is gone.
    gpus = [
        {"pciBusId": gpu.pci_bus_id, "layout": gpu.layout} | ({"withheld": gpu.withheld} if gpu.withheld else {})
        for gpu in spec.gpus
    ]
    return {"gpus": gpus, "observedRevision": spec.observed_revision}


def _read(body: bytes, ask: Ask) -> MigNode:
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise translate(error, ask) from error
