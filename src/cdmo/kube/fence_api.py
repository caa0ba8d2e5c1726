"""The FenceApi on a real API server: a Node's taints, labels and capacity, its pods, and the proof of the fence."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from cdmo.api.decoding import decoder
from cdmo.errors import ClusterError, Conflict, Denied, Expired, Invalid, NotFound
from cdmo.kube.connect import MERGE_PATCH, Connection
from cdmo.kube.errors import translate
from cdmo.kube.fence_probe import LONGEST_VERSION, refused_as_of
from cdmo.kube.pages import pages
from cdmo.kube.port import LabelsBeside, Provided, in_any_case, no_labels
from cdmo.kube.resources import ENDPOINT_SLICE, NODE, POD, Ask
from cdmo.kube.slim import node_info, pod_info
from cdmo.kube.wire import decode_page, identity
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.names import is_mig_resource
from cdmo.runtime.clock import Clock

log = structlog.get_logger(__name__)

_TRIES = 8  # of one write: others (kubelet, node lifecycle controller) write the same object
# Seconds for which an answer is worth a try where nothing is heard of the Node in between: many write it.
_FRESH_SECONDS = 5.0
_PAGE = "500"
_LIST_TRIES = 3

_Taint = dict[str, str | None]


class _TaintsSpec(msgspec.Struct, frozen=True):
    taints: list[_Taint] | None = None


class _GuardedMetadata(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(name="resourceVersion")
    labels: dict[str, str] | None = None


class _AmountsStatus(msgspec.Struct, frozen=True):
    capacity: dict[str, str | int] | None = None
    allocatable: dict[str, str | int] | None = None


class _GuardedNode(msgspec.Struct, frozen=True):
    metadata: _GuardedMetadata
    spec: _TaintsSpec | None = None
    status: _AmountsStatus | None = None


class _Endpoint(msgspec.Struct, frozen=True):
    addresses: list[str] | None = None


class _Port(msgspec.Struct, frozen=True):
    name: str | None = None
    port: int | None = None


class _EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    address_type: str | None = None
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


_decode_node = decoder(_GuardedNode)
_decode_slice = decoder(_EndpointSlice)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A Node as it was seen once: what is told of it, and what is written here, each part with all its fields."""

    info: NodeInfo
    parts: _GuardedNode
    at: float  # by the clock: monotonic

    @property
    def version(self) -> str:
        return self.parts.metadata.resource_version

    @property
    def labels(self) -> dict[str, str]:
        return self.parts.metadata.labels or {}

    @property
    def taints(self) -> list[_Taint]:
        return (self.parts.spec.taints if self.parts.spec else None) or []


# From what a Node is to a merge patch; None: nothing is to be done.
_Change = Callable[[_Seen], dict[str, Any] | None]


class KubeFence:
    """All that a change to a node needs of the API server (see `cdmo.kube.port.FenceApi`).

    A change writes its Node several times in a row. Each write names the version it was made from, so it may be made
    from the last answer, or from what a watch says: the API server refuses it if that is no longer how the Node is,
    and only then is it read.
    """

    def __init__(self, connection: Connection, clock: Clock, random: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._random = random
        self._known: _Seen | None = None
        self._watches = False

    def watched(self, raw: msgspec.Raw) -> NodeInfo:
        """The Node that a watch has told of: the next write is made from it. For a watch of one Node, which tells of
        whatever changes it. Raises msgspec.ValidationError or ValueError."""
        info = node_info(raw)
        with suppress(msgspec.ValidationError):  # a Node that cannot be written is told when it is to be written
            self._keep(_Seen(info, _decode_node(raw), self._clock.monotonic()))
            self._watches = True
        return info

    async def node(self, name: str) -> NodeInfo:
        """The Node as the API server has it now (a quorum read)."""
        return (await self._read(name)).info

    async def set_taint(
        self, name: str, key: str, effect: str, beside: LabelsBeside = no_labels
    ) -> tuple[NodeInfo, int]:
        """Put the taint on the Node, once, and labels beside it in the same step; other taints stay as they are.
        Returns the Node that has them, and its version."""

        def merge(node: _Seen) -> dict[str, Any] | None:
            change: dict[str, Any] = {}
            taints, has = node.taints, node.labels
            # For the API the list of taints is one atomic value: it is written whole.
            if not any(one.get("key") == key and one.get("effect") == effect for one in taints):
                change["spec"] = {"taints": [*taints, {"key": key, "effect": effect}]}
            labels = beside(has)
            if any(has.get(label) != value for label, value in labels.items()):
                change["metadata"] = {"labels": dict(labels)}
            return change or None

        node = await self._merge(Ask("patch", NODE, name), merge)
        return node.info, _number(node.version)

    async def remove_taint(self, name: str, key: str) -> None:
        """Take every taint with this key off the Node; fine when there is none."""

        def merge(node: _Seen) -> dict[str, Any] | None:
            rest = [one for one in node.taints if one.get("key") != key]
            return {"spec": {"taints": rest}} if rest != node.taints else None

        await self._merge(Ask("patch", NODE, name), merge)

    async def _merge(self, ask: Ask, merge: _Change) -> _Seen:
        """Make a change from what the Node is now, write it for that version alone; that there is nothing to do is
        believed of no Node but one just read. Returns the Node that is as wanted, as the API server has it.

        A write that names no version could be carried out late, after its sender gave up waiting for the answer and
        went on: it would then undo what came since (a fence that falls in the middle of the next change).
        """
        known = self._fresh(ask.name)
        if known is not None and (change := merge(known)) is not None:
            with suppress(Conflict):
                return await self._write(ask, change, known)
        for attempt in range(1, _TRIES + 1):
            node = await self._read(ask.name)
            change = merge(node)
            if change is None:
                return node
            try:
                return await self._write(ask, change, node)
            except Conflict:
                if attempt == _TRIES:
                    raise
                await self._clock.sleep(0.01 * 2**attempt * self._random())
        raise AssertionError("unreachable")

    async def _write(self, ask: Ask, change: dict[str, Any], node: _Seen) -> _Seen:
        """Raises Conflict when the Node is no longer the one that the change was made from."""
        self._known = None  # until there is an answer nobody knows
        metadata = {**change.get("metadata", {}), "resourceVersion": node.version}
        body = msgspec.json.encode({**change, "metadata": metadata})
        return self._answered(await self._connection.call(ask, body=body, content_type=MERGE_PATCH), ask)

    async def _read(self, name: str) -> _Seen:
        ask = Ask("get", NODE, name)
        return self._answered(await self._connection.call(ask), ask)

    def _answered(self, body: bytes, ask: Ask) -> _Seen:
        try:
            node = _Seen(node_info(body), _decode_node(body), self._clock.monotonic())
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            raise _unreadable(error, ask) from error
        self._keep(node)
        return node

    def _keep(self, node: _Seen) -> None:
        """Watch and answers overtake one another: the latest counts."""
        known = self._known
        if known is None or known.info.name != node.info.name or not _precedes(node.version, known.version):
            self._known = node

    def _fresh(self, name: str) -> _Seen | None:
        known = self._known
        if known is None or known.info.name != name:
            return None
        return known if self._watches or self._clock.monotonic() - known.at <= _FRESH_SECONDS else None

    async def set_labels(self, name: str, labels: Mapping[str, str | None], provided: Provided = in_any_case) -> bool:
        """Merge labels into a Node that is as `provided`, in one step; None removes one. Returns whether it was."""
        so = False

        def merge(node: _Seen) -> dict[str, Any] | None:
            nonlocal so
            so = provided(node.info)
            changes = any(node.labels.get(label) != value for label, value in labels.items())
            return {"metadata": {"labels": dict(labels)}} if so and changes else None

        await self._merge(Ask("patch", NODE, name), merge)
        return so

    async def swap_label(self, name: str, label: str, before: str, after: str, *, beside: str) -> bool:
        """Give the label another value if it has this one and the taint `beside` is there, in one step; returns
        whether that was so."""
        so = False

        def merge(node: _Seen) -> dict[str, Any] | None:
            nonlocal so
            so = node.labels.get(label) == before and any(one.get("key") == beside for one in node.taints)
            return {"metadata": {"labels": {label: after}}} if so else None

        await self._merge(Ask("patch", NODE, name), merge)
        return so

    async def take_off(self, name: str, label: str, value: str | None, taint: str) -> bool:
        """Take the label and every taint with this key off, if the label has this value (None: is absent), in one
        step; returns whether it had."""
        had = False

        def merge(node: _Seen) -> dict[str, Any] | None:
            nonlocal had
            had = node.labels.get(label) == value
            rest = [one for one in node.taints if one.get("key") != taint]
            if not had or (value is None and rest == node.taints):
                return None
            return {"metadata": {"labels": {label: None}}, "spec": {"taints": rest}}

        await self._merge(Ask("patch", NODE, name), merge)
        return had

    async def set_mig_capacity(
        self, node: str, capacity: Mapping[str, int], allocatable: Mapping[str, int]
    ) -> NodeInfo:
        """Write capacity and allocatable of the MIG resources into the Node's status; unnamed ones become 0."""

        def merge(now: _Seen) -> dict[str, Any]:
            had = now.parts.status or _AmountsStatus()
            names = {name for name in (*(had.capacity or ()), *(had.allocatable or ())) if is_mig_resource(name)}
            none = dict.fromkeys(sorted(names), 0)
            wanted = {"capacity": _amounts({**none, **capacity}), "allocatable": _amounts({**none, **allocatable})}
            return {"status": wanted}

        return (await self._merge(Ask("patch", NODE, node, subresource="status"), merge)).info

    async def pods_on(self, node: str) -> tuple[PodInfo, ...]:
        """Every pod bound or nominated to the node. A list without a resource version is a quorum read.

        Bound ones are listed last: a nominated pod that is bound between the two lists is then in the second.
        """
        found: dict[str, PodInfo] = {}
        for selector in (f"status.nominatedNodeName={node}", f"spec.nodeName={node}"):
            found.update(await self._pods(selector))
        return tuple(found[key] for key in sorted(found))

    async def _pods(self, selector: str) -> dict[str, PodInfo]:
        for attempt in range(1, _LIST_TRIES + 1):
            try:
                return await self._pods_once(selector)
            except Expired:  # the list outlived its continue token
                if attempt == _LIST_TRIES:
                    raise
        raise AssertionError("unreachable")

    async def _pods_once(self, selector: str) -> dict[str, PodInfo]:
        ask = Ask("list", POD)
        found: dict[str, PodInfo] = {}
        async for page in pages(self._connection, ask, {"fieldSelector": selector, "limit": _PAGE}):
            try:
                for raw in page.items or ():
                    key, _ = identity(raw)
                    found[key] = pod_info(raw)
            except (msgspec.MsgspecError, ValueError, OverflowError) as error:
                # Not left out as a mirror would: a pod that cannot be judged must stop the change.
                raise _unreadable(error, ask) from error
        return found

    async def api_servers(self) -> tuple[str, ...]:
        """Base URL of every API server, the configured one first. Falls back to that one alone when this process
        may not read the EndpointSlices of default/kubernetes, or when they say nothing usable."""
        ask = Ask("list", ENDPOINT_SLICE, namespace="default")
        try:
            body = await self._connection.call(ask, params={"labelSelector": "kubernetes.io/service-name=kubernetes"})
            slices = [_decode_slice(raw) for raw in decode_page(body).items or ()]
        except (Denied, NotFound) as error:
            log.warning("fence.api_servers_unknown", error=str(error), hint=error.hint)
            return (self._connection.server,)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        urls = [url for one in slices for url in _urls(one)]
        # A listed server of the configured URL is the same one, not another.
        return tuple(dict.fromkeys([self._connection.server, *sorted(urls)]))

    async def refused_as_of(self, node: str, server: str) -> int | None:
        """The version of the Node for which this API server refuses bindings to it, None if it allows them."""
        return await refused_as_of(self._connection, node, server)


def _precedes(version: str, other: str) -> bool:
    return _is_number(version) and _is_number(other) and int(version) < int(other)


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdecimal() and len(version) <= LONGEST_VERSION


def _number(version: str) -> int:
    """A resource version as the number that it is: two of one resource can be compared (KEP-5504)."""
    if not _is_number(version):
        raise Invalid(
            f"the resource version {version[:40]!r} of a Node is no number",
            hint="CDMO needs a Kubernetes API server whose resource versions can be compared",
        )
    return int(version)


def _amounts(counts: Mapping[str, int]) -> dict[str, str]:
    return {resource: str(count) for resource, count in counts.items()}


def _urls(found: _EndpointSlice) -> list[str]:
    """Base URLs in one EndpointSlice; names and loopback addresses are of no use from another machine."""
    if found.address_type not in ("IPv4", "IPv6"):
        return []
    ports = [one.port for one in found.ports or () if one.port and one.name in ("https", "", None)]
    addresses = [text for endpoint in found.endpoints or () for text in endpoint.addresses or ()]
    return [f"https://{_host(text)}:{port}" for text in addresses if _is_reachable(text) for port in ports]


def _is_reachable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _unreadable(error: Exception, ask: Ask) -> ClusterError:
    if isinstance(error, msgspec.MsgspecError):
        return translate(error, ask)
    return Invalid(f"could not {ask}: {error}", hint="an object in the cluster holds a value that CDMO cannot read")
