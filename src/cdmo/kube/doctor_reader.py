"""Reads what the doctor looks at. Everything by itself: what may not be read, or does not answer, is named, and the
rest still counts. What a cluster does not know (404 of a kind) it simply does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import MigNode
from cdmo.doctor.facts import ClusterFacts, ConfigMap, Right, Source, Workload
from cdmo.doctor.rights import Need, needs_of
from cdmo.errors import ClusterError, ClusterUnavailable, NotFound
from cdmo.kube import doctor_objects as objects
from cdmo.kube.connect import Connection
from cdmo.kube.errors import translate
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.pages import pages
from cdmo.kube.resources import MIG_NODE, NODE, SUBJECT_ACCESS_REVIEW, Ask, Kind

T = TypeVar("T")

_PAGE = "500"
_CALL_S = 20.0  # seconds for a question about one object
_ANSWERS_AT_ONCE = 8
_GPU_CLUSTERS = "gpuclusters.nvidia.com"  # young: its version may change
_ADMISSION = "admissionregistration.k8s.io"

CONFIG_MAP = Kind("ConfigMap", "configmaps", namespaced=True)
KINDS: Mapping[Source, Kind] = {
    Source.NODES: NODE,
    Source.MIG_NODES: MIG_NODE,
    Source.DAEMON_SETS: Kind("DaemonSet", "daemonsets", "apps", namespaced=True),
    Source.DEPLOYMENTS: Kind("Deployment", "deployments", "apps", namespaced=True),
    Source.CLUSTER_POLICIES: Kind("ClusterPolicy", "clusterpolicies", "nvidia.com"),
    Source.GPU_CLUSTERS: Kind("GPUCluster", "gpuclusters", "nvidia.com", "v1alpha1"),
    Source.POLICIES: Kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies", _ADMISSION),
    Source.BINDINGS: Kind("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", _ADMISSION),
    Source.DEVICE_CLASSES: Kind("DeviceClass", "deviceclasses", "resource.k8s.io"),
    Source.DEFINITIONS: Kind("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io"),
}


class _ReviewStatus(msgspec.Struct, frozen=True):
    allowed: bool = False
    denied: bool = False


class _Review(msgspec.Struct, frozen=True):
    status: _ReviewStatus = _ReviewStatus()


_decode_review = decoder(_Review)


@dataclass(slots=True)
class _Reading:
    """What one diagnosis has read so far."""

    connection: Connection
    unread: dict[Source, str] = field(default_factory=dict)

    async def list(
        self, source: Source, convert: Callable[[msgspec.Raw], T], served: Sequence[str] = ()
    ) -> tuple[T, ...]:
        """Every object of a kind, in the API server's order. `served`: versions of it, where there may be others."""
        kind = KINDS[source]
        try:
            return await self._all(Ask("list", replace(kind, version=served[0]) if served else kind), convert)
        except NotFound:
            return ()
        except ClusterError as error:
            self.unread[source] = str(error)
            return ()

    async def _all(self, ask: Ask, convert: Callable[[msgspec.Raw], T]) -> tuple[T, ...]:
        found: list[T] = []
        async for page in pages(self.connection, ask, {"limit": _PAGE}):
            try:
                found += [convert(raw) for raw in page.items or ()]
            except msgspec.MsgspecError as error:
                raise translate(error, ask) from error
        return tuple(found)

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        """One ConfigMap; None where there is none."""
        ask = Ask("get", CONFIG_MAP, name, namespace)
        try:
            body = await self.connection.call(ask, limit_s=_CALL_S)
            return objects.config_map(msgspec.Raw(body))
        except NotFound:
            return None
        except msgspec.MsgspecError as error:
            self.unread[Source.CONFIG_MAPS] = str(translate(error, ask))
        except ClusterError as error:
            self.unread[Source.CONFIG_MAPS] = str(error)
        return None

    async def right(self, workload: Workload, need: Need) -> Right | None:
        """Whether the workload's account may do this; None when that may not be asked."""
        ask = Ask("create", SUBJECT_ACCESS_REVIEW)
        kind, account = ask.kind, workload.service_account
        attributes = {
            "verb": need.verb,
            "group": need.group,
            "version": "*",
            "resource": need.plural,
            "subresource": need.subresource,
            "namespace": need.namespace,
            "name": need.name,
        }
        spec = {
            "user": f"system:serviceaccount:{workload.namespace}:{account}",
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{workload.namespace}",
                "system:authenticated",
            ],
            "resourceAttributes": attributes,
        }
        body = msgspec.json.encode({"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec})
        try:
            status = _decode_review(await self.connection.call(ask, body=body, limit_s=_CALL_S)).status
        except msgspec.MsgspecError as error:
            self.unread[Source.ACCESS] = str(translate(error, ask))
            return None
        except ClusterError as error:
            self.unread[Source.ACCESS] = str(error)
            return None
        where = f"{workload.namespace}/{account}"
        return Right(where, need.verb, need.resource, status.allowed and not status.denied)


async def read_facts(connection: Connection, now: float, limit_s: float) -> ClusterFacts:
    """Everything the doctor looks at, within `limit_s` seconds. `now`: unix time in seconds. Raises ClusterError when
    nothing is answered at all."""
    try:
        async with asyncio.timeout(limit_s):
            return await _read(_Reading(connection), now)
    except TimeoutError as error:
        raise ClusterUnavailable(
            f"the cluster could not be read within {limit_s:g} s", hint="is the API server overloaded?"
        ) from error


async def _read(reading: _Reading, now: float) -> ClusterFacts:
    version = await reading.connection.check()  # a cluster that does not answer is a failure, not a finding
    async with asyncio.TaskGroup() as group:

        def start(source: Source, convert: Callable[[msgspec.Raw], T]) -> asyncio.Task[tuple[T, ...]]:
            return group.create_task(reading.list(source, convert))

        nodes = start(Source.NODES, objects.node_fact)
        mig_nodes: asyncio.Task[tuple[MigNode, ...]] = start(Source.MIG_NODES, mig_node)
        daemon_sets = start(Source.DAEMON_SETS, objects.daemon_set)
        deployments = start(Source.DEPLOYMENTS, objects.deployment)
        cluster_policies = start(Source.CLUSTER_POLICIES, objects.cluster_policy)
        policies = start(Source.POLICIES, objects.policy_fact)
        bindings = start(Source.BINDINGS, objects.binding_fact)
        device_classes = start(Source.DEVICE_CLASSES, objects.device_class)
        definitions = start(Source.DEFINITIONS, objects.definition)
    served = next((each.served for each in definitions.result() if each.name == _GPU_CLUSTERS), ())
    gpu_clusters = await reading.list(Source.GPU_CLUSTERS, objects.gpu_cluster, served)
    facts = ClusterFacts(
        now,
        version,
        nodes.result(),
        mig_nodes.result(),
        daemon_sets.result(),
        deployments.result(),
        (),
        cluster_policies.result(),
        gpu_clusters,
        policies.result(),
        bindings.result(),
        device_classes.result(),
        definitions.result(),
    )
    if len(reading.unread) == len(KINDS):
        raise ClusterUnavailable("nothing of the cluster could be read", hint=next(iter(reading.unread.values())))
    return await _with_details(reading, facts)


async def _with_details(reading: _Reading, facts: ClusterFacts) -> ClusterFacts:
    """The same, with what could only be asked for once these facts were known."""
    places = {each.namespace for each in facts.daemon_sets if "device-plugin" in each.name}
    names = {each.plugin_config for each in facts.cluster_policies if each.plugin_config}
    found = [await reading.config_map(place, name) for place in sorted(places) for name in sorted(names)]
    at_once = asyncio.Semaphore(_ANSWERS_AT_ONCE)

    async def asked(workload: Workload, need: Need) -> Right | None:
        async with at_once:
            return await reading.right(workload, need)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asked(*each)) for each in needs_of(facts)]
    rights = tuple(right for task in tasks if (right := task.result()) is not None)
    config_maps = tuple(each for each in found if each is not None)
    return replace(facts, config_maps=config_maps, rights=rights, unread=dict(reading.unread))
