"""The HandoverApi on a real API server, with an administrator's credentials."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.errors import Conflict, Invalid, NotFound
from cdmo.handover.port import NodePod
from cdmo.kube.connect import MERGE_PATCH, Connection
from cdmo.kube.errors import translate
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.pages import pages
from cdmo.kube.resources import MIG_NODE, NODE, POD, Ask
from cdmo.kube.slim import node_info, pod_info
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import PodKey

_PAGE = "500"


class _Owner(msgspec.Struct, frozen=True):
    kind: str = ""
    controller: bool | None = None


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    owner_references: list[_Owner] | None = None


class _Owned(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


_decode_owned = decoder(_Owned)


class KubeHandover:
    """See `cdmo.handover.port.HandoverApi`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def node(self, name: str) -> NodeInfo | None:
        """The Node, or None."""
        ask = Ask("get", NODE, name)
        try:
            body = await self._connection.call(ask)
        except NotFound:
            return None
        try:
            return node_info(body)
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise _unreadable(error, ask) from error

    async def mignode(self, name: str) -> MigNode | None:
        """The MigNode, or None; also where the cluster knows no MigNodes."""
        ask = Ask("get", MIG_NODE, name)
        try:
            return _read(await self._connection.call(ask), ask)
        except NotFound:
            return None

    async def pods_on(self, node: str) -> tuple[NodePod, ...]:
        """Every pod that is bound to the node, from a quorum read."""
        ask = Ask("list", POD)
        found: list[NodePod] = []
        async for page in pages(self._connection, ask, {"fieldSelector": f"spec.nodeName={node}", "limit": _PAGE}):
            try:
                found += [NodePod(pod_info(raw), _owner(raw)) for raw in page.items or ()]
            except (msgspec.MsgspecError, ValueError, OverflowError) as error:
                raise _unreadable(error, ask) from error
        return tuple(found)

    async def mark_node(
        self, name: str, labels: Mapping[str, str | None], annotations: Mapping[str, str | None]
    ) -> None:
        """Merge labels and annotations; None removes one."""
        body = msgspec.json.encode({"metadata": {"labels": dict(labels), "annotations": dict(annotations)}})
        await self._connection.call(Ask("patch", NODE, name), body=body, content_type=MERGE_PATCH)

    async def set_mode(self, name: str, mode: Mode) -> MigNode:
        """Set the mode; the layouts of before are gone with it, or the slices in them would come back."""
        ask = Ask("patch", MIG_NODE, name)
        body = msgspec.json.encode({"spec": {"mode": mode, "gpus": []}})
        return _read(await self._connection.call(ask, body=body, content_type=MERGE_PATCH), ask)

    async def evict(self, pod: PodKey) -> None:
        """Evict the pod of this uid; one made anew under its name is another one."""
        ask = Ask("create", POD, pod.name, pod.namespace, "eviction")
        options = {"preconditions": {"uid": pod.uid}} if pod.uid else {}
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": options,
        }
        try:
            await self._connection.call(ask, body=msgspec.json.encode(body))
        except Conflict as error:
            raise NotFound(str(error)) from error


def _owner(raw: msgspec.Raw) -> str:
    owners = _decode_owned(raw).metadata.owner_references or ()
    return next((each.kind for each in owners if each.controller), "")


def _read(body: bytes, ask: Ask) -> MigNode:
    try:
        return mig_node(body)
    except msgspec.MsgspecError as error:
        raise translate(error, ask) from error


def _unreadable(error: Exception, ask: Ask) -> Exception:
    if isinstance(error, msgspec.MsgspecError):
        return translate(error, ask)
    return Invalid(f"could not {ask}: {error}", hint="an object in the cluster holds a value that CDMO cannot read")
