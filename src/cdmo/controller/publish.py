"""From a plan to MigNode specs: written only where something changes, and only onto what was planned from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from cdmo.api.convert import Withheld, layouts_from_spec, layouts_to_spec
from cdmo.api.v1alpha1 import Metadata, MigNode, MigNodeSpec, OwnerReference, PlacedProfile
from cdmo.errors import AlreadyExists, BadSpec, ClusterError, Conflict
from cdmo.kube.port import MigNodeApi
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import Placement
from cdmo.model.plan import GpuChange, Plan

logger = structlog.get_logger(__name__)

AT_ONCE = 16  # writes in flight


class Publisher:
    """Writes plans to the API server."""

    def __init__(self, api: MigNodeApi) -> None:
        self._api = api
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def publish(
        self,
        plan: Plan,
        planned_from: Callable[[str], MigNode | None],
        withholding: Iterable[str],
        unconfirmed: Collection[str],
    ) -> frozenset[str]:
        """Write every changed node's spec. Returns the nodes that could not be written: to be planned again.

        planned_from: by node name what the plan saw; asked before anything is awaited.
        withholding: nodes whose specs withhold slices so far: of a window that moved or ended nothing is left.
        unconfirmed: nodes that were planned on and whose layouts leave out an instance that came later (`overtaken`).
        The plan has seen it and leaves the layout as it is, so the spec is tied to what was seen now.
        """
        changes: dict[str, list[GpuChange]] = {}
        for change in plan.changes:
            changes.setdefault(change.node, []).append(change)
        withheld = withheld_by(plan)
        specs: dict[str, tuple[MigNode, MigNodeSpec]] = {}
        for name in sorted({*changes, *withheld, *withholding, *unconfirmed}):
            mignode = planned_from(name)
            if mignode is None:
                continue
            spec = spec_after(mignode, changes.get(name, ()), withheld.get(name, {}))
            if name in changes or name in unconfirmed or spec.gpus != mignode.spec.gpus:
                specs[name] = (mignode, spec)
        written = await asyncio.gather(*(self._write(*each) for each in specs.values()))
        return frozenset(name for name, done in zip(specs, written, strict=True) if not done)

    async def ensure_mignodes(self, nodes: Iterable[NodeInfo], mignodes: Mapping[str, MigNode]) -> None:
        """Make the MigNode of every labelled node that has none; it goes with its Node."""
        missing = [each for each in nodes if each.name not in mignodes]
        await asyncio.gather(*(self._create(each) for each in missing))

    async def _create(self, node: NodeInfo) -> None:
        owner = OwnerReference(name=node.name, uid=node.uid)
        try:
            async with self._slots:
                await self._api.create(MigNode(metadata=Metadata(name=node.name, owner_references=(owner,))))
        except AlreadyExists:
            return
        except ClusterError as error:
            logger.warning("a MigNode could not be made", node=node.name, error=str(error), hint=error.hint)

    async def _write(self, planned_from: MigNode, spec: MigNodeSpec) -> bool:
        name = planned_from.metadata.name
        try:
            async with self._slots:
                await self._write_onto(planned_from, spec)
        except Conflict:
            return False
        except ClusterError as error:
            logger.warning("a spec could not be written", node=name, error=str(error), hint=error.hint)
            return False
        return True

    async def _write_onto(self, planned_from: MigNode, spec: MigNodeSpec) -> None:
        """Write; when only a heartbeat came between, write onto that. Raises Conflict when more did."""
        name = planned_from.metadata.name
        try:
            await self._api.write_spec(name, spec, planned_from.metadata.resource_version)
        except Conflict:
            now = await self._api.get(name)
            same = (now.metadata.uid, now.metadata.generation, now.status.revision, now.status.gpus) == (
                planned_from.metadata.uid,
                planned_from.metadata.generation,
                planned_from.status.revision,
                planned_from.status.gpus,
            )
            if not same:
                raise
            await self._api.write_spec(name, spec, now.metadata.resource_version)


def overtaken(mignode: MigNode) -> bool:
    """Whether a layout leaves out an instance that came after the status it was planned from.

    That is how it goes when a plan changes while the agent is cutting what was asked for before. The agent leaves
    such an instance alone, and waits, until a spec says that it was seen.
    """
    layouts = {each.pci_bus_id: each.layout for each in mignode.spec.gpus}
    return any(
        device.revision > mignode.spec.observed_revision
        and PlacedProfile(profile_id=device.profile_id, start=device.start) not in layouts[gpu.pci_bus_id]
        for gpu in mignode.status.gpus
        if gpu.pci_bus_id in layouts
        for device in gpu.devices
    )


def withheld_by(plan: Plan) -> dict[str, Withheld]:
    """The slices in the way of windows, by node. Those that the plan gives to pods are left to them."""
    given = {(each.node, one.gpu, one.placement) for each in plan.placements for one in each.slices}
    withheld: dict[str, dict[str, tuple[Placement, ...]]] = {}
    for window in plan.windows:
        for gpu, placement in window.in_the_way:
            if (window.node, gpu, placement) not in given:
                of_node = withheld.setdefault(window.node, {})
                of_node[gpu] = (*of_node.get(gpu, ()), placement)
    return dict(withheld)


def spec_after(planned_from: MigNode, changes: Iterable[GpuChange], withheld: Withheld) -> MigNodeSpec:
    """The spec with the changed GPUs' layouts and what is withheld, tied to the revision it was planned from."""
    try:
        layouts = layouts_from_spec(planned_from)
    except BadSpec:
        layouts = {}  # written anew from what is there: the changes hold every slice in use
    there = {
        each.pci_bus_id: tuple(sorted(Placement(one.profile_id, one.start) for one in each.devices))
        for each in planned_from.status.gpus
    }
    layouts = {bus: layout for bus, layout in layouts.items() if bus in there}
    # A GPU that is left as it is has no layout to withhold slices of: it gets that of what is there.
    layouts |= {bus: there[bus] for bus in withheld if bus in there and bus not in layouts}
    layouts |= {each.gpu: each.layout for each in changes}
    return MigNodeSpec(
        mode=planned_from.spec.mode,
        observed_revision=planned_from.status.revision,
        gpus=layouts_to_spec(layouts, withheld),
    )
