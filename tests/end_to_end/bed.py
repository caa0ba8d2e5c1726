"""What the end-to-end tests do with a cluster, in the words of their sentences."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from cdmo_harness.binaries import cache_root
from cdmo_harness.driver import DriverCounters, SliceSnapshot
from cdmo_harness.errors import ControlPlaneError, NoSuchObject
from cdmo_harness.gpu_node import GpuNode, NodeSetup
from cdmo_harness.local_cluster import DEMO_NODES, LocalCluster, NodeSpec
from cdmo_harness.nvml_build import build_library
from cdmo_harness.observer import ClusterView, PodSight, pod_manifest

from cdmo.api.v1alpha1 import Condition, MigNode
from cdmo.model.cluster import carries_fence
from cdmo.model.gpu import MigMode
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE, is_mig_resource
from tests.harness.kubelet.cluster import Kubelet

LABELLED = {PARTITIONING_LABEL: PARTITIONING_VALUE}
UNLABELLED = {PARTITIONING_LABEL: None}

# Seconds. A change takes under one on an idle machine; a test machine may be busy.
SOON = 20.0

# (GPU index, profile id, first memory slot)
Where = tuple[int, int, int]


@dataclass(slots=True)
class Bed:
    """One cluster and one view of it."""

    cluster: LocalCluster
    view: ClusterView

    # --- acting ---------------------------------------------------------------------------------------------

    async def submit(
        self, name: str, profile: str, count: int = 1, *, node: str = "", run_seconds: float | None = None
    ) -> str:
        """A pod that asks for slices of one profile, on one node if it is named; returns "namespace/name"."""
        return await self.submit_asking(
            name, {f"nvidia.com/mig-{profile}": count}, node=node, run_seconds=run_seconds
        )

    async def submit_asking(
        self, name: str, asks: dict[str, int], *, node: str = "", run_seconds: float | None = None
    ) -> str:
        """A pod that asks for these extended resources."""
        spec = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
        return await self.view.submit(pod_manifest(name, asks, run_seconds=run_seconds, spec=spec))

    async def running(self, key: str, *, limit: float = SOON) -> PodSight:
        """The pod, once it runs, with its devices."""
        pods = self.view.pods
        await self.view.wait(f"{key} runs", lambda: pods[key].phase == "Running", limit=limit)
        pod = pods[key]
        if not pod.devices:  # before 1.36 a pod's status does not name them
            kubelet = Kubelet(self.cluster.nodes[pod.info.node_name])
            pod.devices = tuple(await kubelet.held(pod.info.key.name))
        return pod

    async def end(self, *keys: str) -> None:
        """Delete pods and wait until they are gone; those that just went by themselves are fine."""
        await asyncio.gather(*map(self._delete, keys))
        await self.view.wait(f"{keys} are gone", lambda: self.view.gone.issuperset(keys), limit=SOON)

    async def _delete(self, key: str) -> None:
        with suppress(NoSuchObject):
            await self.view.delete(key)

    async def lay_out(self, node: str, *layouts: Sequence[tuple[int, int]]) -> None:
        """Have the agent cut these layouts, one a GPU, of (profile id, first slot); no pod may be waiting."""
        with self.paused_controllers():
            await self._lay_out(node, layouts)

    async def _lay_out(self, node: str, layouts: Sequence[Sequence[tuple[int, int]]]) -> None:
        buses = [each.pci_bus_id for each in self.cluster.nodes[node].setup.gpus]
        await self.write_spec(node, [layout_of(bus, *layout) for bus, layout in zip(buses, layouts, strict=True)])
        wanted = {(gpu, *each) for gpu, layout in enumerate(layouts) for each in layout}
        await self.view.wait(
            f"{node} is cut into {sorted(wanted)}",
            lambda: self.slices(node).keys() == wanted and self.settled(node),
            limit=SOON,
        )

    @contextmanager
    def paused_controllers(self) -> Iterator[None]:
        """No controller plans inside the block, which must be shorter than a Lease: a controller keeps idle slices
        that are missing in a spec for as long as it sees them."""
        controllers = tuple(self.cluster.controllers)
        for each in controllers:
            each.pause()
        try:
            yield
        finally:
            for each in controllers:
                each.resume()

    async def write_spec(self, node: str, gpus: list[dict[str, Any]]) -> None:
        """Edit a MigNode by hand, as somebody who has seen its present status."""
        revision = self.view.mignodes[node].status.revision
        await self.view.patch_mignode(node, {"spec": {"observedRevision": revision, "gpus": gpus}})

    # --- looking --------------------------------------------------------------------------------------------

    def slices(self, node: str) -> dict[Where, SliceSnapshot]:
        """What the simulated hardware of a node is cut into."""
        gpus = self.cluster.nodes[node].driver.snapshot()
        return {(gpu.index, each.profile_id, each.start): each for gpu in gpus for each in gpu.slices}

    def slice_of(self, pod: PodSight) -> SliceSnapshot:
        """The one slice that a running pod holds."""
        (uuid,) = pod.devices
        return next(each for each in self.slices(pod.info.node_name).values() if each.uuid == uuid)

    def hardware(self, node: str) -> DriverCounters:
        """What was done to a node's GPUs so far; what was only asked and refused is left out."""
        return replace(self.cluster.nodes[node].driver.counters(), refusals={})

    def noted_off(self, node: str) -> bool:
        """Whether the MIG mode of all of a node's GPUs is off, or will be when they are reset."""
        gpus = self.view.mignodes[node].status.gpus
        return all(each.mig_mode in (MigMode.DISABLED, MigMode.DISABLE_PENDING) for each in gpus)

    async def annotate(self, node: str, annotations: Mapping[str, str | None]) -> None:
        """Set annotations of a Node; None removes one."""
        api, path = self.cluster.control_plane.api, f"/api/v1/nodes/{node}"
        await asyncio.to_thread(api.patch, path, {"metadata": {"annotations": dict(annotations)}})

    def changes(self, node: str) -> int:
        """How many changes the agent has reported of this node."""
        last = self.view.mignodes[node].status.last_repartition
        return last.count if last else 0

    def condition(self, node: str, kind: str = "Ready") -> Condition:
        """A condition of a MigNode; KeyError while it is not reported."""
        return condition_of(self.view.mignodes[node], kind)

    def settled(self, node: str) -> bool:
        """Whether hardware, status and the Node's counts agree, no change is under way and no fence is up."""
        mignode, host = self.view.mignodes[node], self.view.nodes[node]
        if carries_fence(host) or self.condition(node, "Repartitioning").status == "True":
            return False
        cut = {where: each.uuid for where, each in self.slices(node).items()}
        reported = {
            (gpu, each.profile_id, each.start): each.uuid
            for gpu, observed in enumerate(mignode.status.gpus)
            for each in observed.devices
        }
        offered = {name: count for name, count in host.allocatable.items() if is_mig_resource(name) and count}
        return cut == reported and offered == self._counts(mignode)

    def failed_change(self, node: str) -> bool:
        """Whether the last change of a node that its agent reported has failed."""
        last = self.view.mignodes[node].status.last_repartition
        return last is not None and last.result == "Failed"

    def events_of_node(self, node: str, reason: str) -> list[str]:
        """What the Events with this reason say about a node. A short blocking call."""
        answer = self.cluster.control_plane.api.get("/apis/events.k8s.io/v1/namespaces/default/events")
        return [
            str(each["note"])
            for each in answer["items"]
            if each["reason"] == reason and each["regarding"]["kind"] == "Node" and each["regarding"]["name"] == node
        ]

    def waiting_events(self, pod: str) -> list[dict[str, Any]]:
        """The Events with reason MigSliceWaiting about a pod of namespace default. A short blocking call."""
        uid = self.view.pod(pod).info.key.uid  # Events outlive pods, and names come again
        answer = self.cluster.control_plane.api.get("/apis/events.k8s.io/v1/namespaces/default/events")
        return [
            each
            for each in answer["items"]
            if each["reason"] == "MigSliceWaiting" and each["regarding"]["uid"] == uid
        ]

    def _counts(self, mignode: MigNode) -> dict[str, int]:
        counts: dict[str, int] = {}
        for gpu in mignode.status.gpus:
            resources = {each.id: each.resource for each in mignode.status.models[gpu.model].profiles}
            for each in gpu.devices:
                counts[resources[each.profile_id]] = counts.get(resources[each.profile_id], 0) + 1
        return counts

    # --- between tests --------------------------------------------------------------------------------------

    async def make_ready(self) -> None:
        """No pods, no slices, every node of the demo labelled and reported by its agent."""
        for node in DEMO_NODES:
            await self.view.label_node(node.name, LABELLED)
        await self.view.wait(
            "every agent reports",
            lambda: all(self.condition(each.name).status == "True" for each in DEMO_NODES),
            limit=30.0,
        )
        await self.remove_pods()
        await self.come_to_rest()
        with self.paused_controllers():
            await asyncio.gather(
                *(self._lay_out(each.name, [()] * len(each.cards)) for each in DEMO_NODES if self.slices(each.name))
            )

    async def come_to_rest(self) -> None:
        """Return when no node changes any more."""
        nodes = self.cluster.nodes
        await self.view.wait("every node is at rest", lambda: all(map(self.settled, nodes)), limit=SOON)

    async def remove_pods(self) -> None:
        """Delete every pod there is and wait until all are gone."""
        there = self.view.pods.keys() - self.view.gone
        await self.end(*there)

    def check_unharmed(self) -> None:
        """Nothing that must never happen has happened on any node since the cluster was started."""
        for name, node in self.cluster.nodes.items():
            counts = node.counters()
            harm = {
                "pods failed by admission": counts.admission_failures,
                "pods admitted without a device": counts.admitted_without_device,
                "pods started on a slice that was gone": counts.started_on_dead_device,
                "destroys of a slice in use": node.driver.counters().destroyed_in_use_attempts,
            }
            assert not any(harm.values()), f"node {name}: {harm}"
        for name, host in self.view.nodes.items():
            assert not carries_fence(host), f"node {name} is still fenced"

    @asynccontextmanager
    async def extra_node(self, name: str, *cards: str, may_lose_pods: bool = False) -> AsyncIterator[GpuNode]:
        """One more node, without label and without agent; inside the block it is one of the cluster's."""
        number = 100 + sum(name.encode())
        setup = NodeSetup(
            name=name,
            kubeconfig=self.cluster.control_plane.kubeconfig_for_node(name),
            library=build_library(cache_root(os.environ) / "nvml"),
            gpus=NodeSpec(name, cards).gpus(number),
            status_period=1.0,  # what is cut before CDMO comes is offered by the kubelet alone, at its next tick
            device_plugin=self.cluster.device_plugin,
            seed=number,
        )
        node = self.cluster.make_node(setup, self.cluster.control_plane.directory)
        await asyncio.to_thread(node.start)
        self.cluster.nodes[name] = node
        try:
            await self.view.wait(f"node {name} is registered", lambda: self.view.nodes[name].ready, limit=SOON)
            yield node
            if not may_lose_pods:
                self.check_unharmed()
        finally:
            await self._remove_node(name)

    async def _remove_node(self, name: str) -> None:
        """In the order of a node that is taken out: its pods, those that may come to it, its agent, its objects."""
        view = self.view
        await self.end(*(key for key in view.pods.keys() - view.gone if view.pods[key].info.node_name in (name, "")))
        if name in self.cluster.agents:
            await asyncio.to_thread(self.cluster.stop_agent, name)
        await asyncio.to_thread(self.cluster.nodes.pop(name).stop)
        for path in (f"/api/v1/nodes/{name}", f"/apis/cdmo.clear.ml/v1alpha1/mignodes/{name}"):
            with suppress(ControlPlaneError):  # a MigNode goes with its Node, or was never made
                await asyncio.to_thread(self.cluster.control_plane.api.delete, path)
        await view.wait(
            f"node {name} is gone", lambda: name not in view.nodes and name not in view.mignodes, limit=SOON
        )


def condition_of(mignode: MigNode, kind: str) -> Condition:
    """A condition of a MigNode; KeyError while it is not reported."""
    return {each.type: each for each in mignode.status.conditions}[kind]


def layout_of(bus: str, *layout: tuple[int, int]) -> dict[str, Any]:
    """An entry of spec.gpus, with (profile id, first slot) pairs."""
    return {"pciBusId": bus, "layout": [{"profileId": profile, "start": start} for profile, start in layout]}
