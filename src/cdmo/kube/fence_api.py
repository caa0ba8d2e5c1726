"""The FenceApi on a real API server: a Node's taints, labels and capacity, its pods, and the proof of the fence."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

import msgspec
import structlog

from cdmo.errors import ClusterError, Conflict, Denied, Expired, Invalid, NotFound
from cdmo.kube.connect import MERGE_PATCH, Connection
from cdmo.kube.errors import Status, status_of, translate
from cdmo.kube.resources import ENDPOINT_SLICE, NODE, POD, Ask
from cdmo.kube.slim import node_info, pod_info
from cdmo.kube.wire import decode_page, identity
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.names import FENCE_POLICY, PROBE_NAMESPACE, PROBE_POD
from cdmo.runtime.clock import Clock

log = structlog.get_logger(__name__)

_TRIES = 8  # writes of the list of taints: others (kubelet, node lifecycle controller) write the same object
_PAGE = "500"
_LIST_TRIES = 3

# How an API server words a refusal by a ValidatingAdmissionPolicy (apiserver 1.30 to 1.37, plugin/policy/
# validating/dispatcher.go). The quotes matter: the probe's own name begins like the policy's, and an RBAC refusal
# repeats it.
_FENCE_SAID = f"ValidatingAdmissionPolicy '{FENCE_POLICY}'"

_Taint = dict[str, str | None]


class _TaintsSpec(msgspec.Struct, frozen=True):
    taints: list[_Taint] | None = None


class _TaintsMetadata(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(name="resourceVersion")


class _TaintsOfNode(msgspec.Struct, frozen=True):
    metadata: _TaintsMetadata
    spec: _TaintsSpec | None = None


class _Endpoint(msgspec.Struct, frozen=True):
    addresses: list[str] | None = None


class _Port(msgspec.Struct, frozen=True):
    name: str | None = None
    port: int | None = None


class _EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    address_type: str | None = None
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


class KubeFence:
    """All that a change to a node needs of the API server (see `cdmo.kube.port.FenceApi`)."""

    def __init__(self, connection: Connection, clock: Clock, random: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._random = random

    async def node(self, name: str) -> NodeInfo:
        """The Node as the API server has it now (a quorum read)."""
        ask = Ask("get", NODE, name)
        body = await self._connection.call(ask)
        try:
            return node_info(body)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _unreadable(error, ask) from error

    async def set_taint(self, name: str, key: str, effect: str) -> None:
        """Put the taint on the Node, once; other taints stay as they are."""

        def add(taints: list[_Taint]) -> list[_Taint]:
            if any(one.get("key") == key and one.get("effect") == effect for one in taints):
                return taints
            return [*taints, {"key": key, "effect": effect}]

        await self._change_taints(name, add)

    async def remove_taint(self, name: str, key: str) -> None:
        """Take every taint with this key off the Node; fine when there is none."""
        await self._change_taints(name, lambda taints: [one for one in taints if one.get("key") != key])

    async def _change_taints(self, name: str, change: Callable[[list[_Taint]], list[_Taint]]) -> None:
        """Read the taints, change the list, write it whole: for the API the list is one atomic value, so a write
        that does not name the version it was made from would undo what others wrote meanwhile."""
        for attempt in range(1, _TRIES + 1):
            version, taints = await self._taints(name)
            wanted = change(taints)
            if wanted == taints:
                return
            body = msgspec.json.encode({"metadata": {"resourceVersion": version}, "spec": {"taints": wanted}})
            try:
                await self._connection.call(Ask("patch", NODE, name), body=body, content_type=MERGE_PATCH)
            except Conflict:
                if attempt == _TRIES:
                    raise
                await self._clock.sleep(0.01 * 2**attempt * self._random())
            else:
                return

    async def _taints(self, name: str) -> tuple[str, list[_Taint]]:
        """The Node's version and its taints with all their fields."""
        ask = Ask("get", NODE, name)
        body = await self._connection.call(ask)
        try:
            node = msgspec.json.decode(body, type=_TaintsOfNode)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        return node.metadata.resource_version, (node.spec.taints if node.spec else None) or []

    async def set_labels(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Merge labels into the Node's; None removes one."""
        body = msgspec.json.encode({"metadata": {"labels": dict(labels)}})
        await self._connection.call(Ask("patch", NODE, name), body=body, content_type=MERGE_PATCH)

    async def set_capacity(self, node: str, capacity: Mapping[str, int], allocatable: Mapping[str, int]) -> None:
        """Write capacity and allocatable of these extended resources into the Node's status."""
        body = msgspec.json.encode({"status": {"capacity": _amounts(capacity), "allocatable": _amounts(allocatable)}})
        ask = Ask("patch", NODE, node, subresource="status")
        await self._connection.call(ask, body=body, content_type=MERGE_PATCH)

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
        params = {"fieldSelector": selector, "limit": _PAGE}
        while True:
            body = await self._connection.call(ask, params=params)
            try:
                page = decode_page(body)
                for raw in page.items or ():
                    key, _ = identity(raw)
                    found[key] = pod_info(raw)
            except (msgspec.MsgspecError, ValueError) as error:
                # Not left out as a mirror would: a pod that cannot be judged must stop the change.
                raise _unreadable(error, ask) from error
            if not page.metadata.continue_token:
                return found
            params = {**params, "continue": page.metadata.continue_token}

    async def api_servers(self) -> tuple[str, ...]:
        """Base URL of every API server, the configured one first. Falls back to that one alone when this process
        may not read the EndpointSlices of default/kubernetes, or when they say nothing usable."""
        ask = Ask("list", ENDPOINT_SLICE, namespace="default")
        try:
            body = await self._connection.call(ask, params={"labelSelector": "kubernetes.io/service-name=kubernetes"})
            slices = [msgspec.json.decode(raw, type=_EndpointSlice) for raw in decode_page(body).items or ()]
        except (Denied, NotFound) as error:
            log.warning("fence.api_servers_unknown", error=str(error), hint=error.hint)
            return (self._connection.server,)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error
        urls = [url for one in slices for url in _urls(one)]
        # A listed server of the configured URL is the same one, not another.
        return tuple(dict.fromkeys([self._connection.server, *sorted(urls)]))

    async def binding_refused(self, node: str, server: str) -> bool:
        """Whether this API server refuses bindings to the node (see the port). Only the fence policy's own
        refusal counts as True, only the missing probe pod as False; everything else raises."""
        ask = Ask("create", POD, PROBE_POD, PROBE_NAMESPACE, "binding")
        body = msgspec.json.encode(
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": PROBE_POD, "namespace": PROBE_NAMESPACE},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }
        )
        try:
            await self._connection.call(ask, params={"dryRun": "All"}, body=body, server=server)
        except Denied as error:
            if _FENCE_SAID in _status(error).message_text:
                return True
            raise
        except NotFound as error:
            if _status(error).about == PROBE_POD:
                return False
            raise
        raise ClusterError(
            f"the fence of {node} cannot be probed: a pod {PROBE_NAMESPACE}/{PROBE_POD} exists",
            hint=f"delete the pod {PROBE_NAMESPACE}/{PROBE_POD}: CDMO needs that name to belong to nobody",
        )


class _Words(msgspec.Struct, frozen=True):
    message_text: str
    about: str


def _status(error: ClusterError) -> _Words:
    """The API server's own words behind a failure, in full (the failure's sentence may be cut)."""
    response = getattr(error.__cause__, "response", None)
    status: Status = status_of(response.content) if response is not None else Status()
    return _Words(status.message or "", (status.details.name if status.details else None) or "")


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
