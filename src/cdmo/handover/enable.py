"""`cdmo enable`: gives a node to CDMO: MIG mode, the label, and the wait until its agent has taken it up."""

from __future__ import annotations

from dataclasses import dataclass

from cdmo.api.v1alpha1 import Mode
from cdmo.errors import BadInput
from cdmo.handover.clients import Clients
from cdmo.handover.port import HandoverApi, existing_node
from cdmo.handover.standing import Standing, can_be_cut, taking_up
from cdmo.handover.waiting import Tell, until_done
from cdmo.model.cluster import NodeInfo, labelled
from cdmo.model.modes import ModePolicy
from cdmo.model.names import MIG_MODE_ANNOTATION, PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Coming:
    """How a node is to be given to CDMO."""

    modes: ModePolicy = ModePolicy.WHEN_IDLE
    limit: float = 300.0  # seconds

    @property
    def switches(self) -> bool:
        """Whether MIG mode is switched on."""
        return self.modes is not ModePolicy.MANUAL


class Enabler:
    """Gives nodes to CDMO, one after the other."""

    def __init__(self, api: HandoverApi, clock: Clock, tell: Tell) -> None:
        self._api = api
        self._clock = clock
        self._tell = tell

    async def check(self, name: str) -> None:
        """Whether it can begin. Raises BadInput: nothing was changed."""
        await existing_node(self._api, name)
        mignode = await self._api.mignode(name)
        if mignode is not None and not can_be_cut(mignode):
            raise _cannot_be_cut(name)

    async def plan(self, name: str, coming: Coming) -> tuple[str, ...]:
        """What would be done, a sentence each. Nothing is changed."""
        node = await self._api.node(name)
        if node is None:
            return ()
        lines = []
        if coming.switches and node.mig_mode != coming.modes:
            lines.append(f"{name}: annotate with {MIG_MODE_ANNOTATION}={coming.modes}")
        if not labelled(node):
            lines.append(f"{name}: label with {PARTITIONING_LABEL}={PARTITIONING_VALUE}")
        return tuple(lines) or (f"{name}: nothing, it is CDMO's already",)

    async def run(self, name: str, coming: Coming) -> None:
        """Give the node to CDMO; what is there already is not done again. Raises BadInput, ChangeStuck,
        ClusterError."""
        node = await existing_node(self._api, name)
        mignode = await self._api.mignode(name)
        if mignode is not None and mignode.spec.mode is not Mode.MANAGED:
            await self._api.set_mode(name, Mode.MANAGED)  # before the label, which would have it disabled else
        annotations = {MIG_MODE_ANNOTATION: str(coming.modes)} if coming.switches else {}
        await self._api.mark_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE}, annotations)
        resets = coming.modes is ModePolicy.WITH_RESET
        clients = Clients(self._api, self._clock, self._tell, name, coming.limit)
        async with clients.stopped(node if resets else None):
            await self._until_taken_up(node, coming)
            if resets:  # allowed for this once
                await self._api.mark_node(name, {}, {MIG_MODE_ANNOTATION: str(ModePolicy.WHEN_IDLE)})

    async def _until_taken_up(self, before: NodeInfo, coming: Coming) -> None:
        await until_done(
            before.name,
            lambda: self._standing(before, coming),
            clock=self._clock,
            tell=self._tell,
            limit=coming.limit,
            needs="CDMO goes on from there",
            late="it becomes ready by itself when what hinders it is over; `cdmo doctor` says more",
        )

    async def _standing(self, before: NodeInfo, coming: Coming) -> Standing:
        mignode = await self._api.mignode(before.name)
        if mignode is None:
            return Standing("the controller has made no MigNode yet")
        standing = taking_up(mignode, self._clock.now(), switches=coming.switches)
        if mignode.status.gpus and not can_be_cut(mignode):
            await self._undo(before)
            raise _cannot_be_cut(before.name)
        return standing

    async def _undo(self, before: NodeInfo) -> None:
        """Label and annotation as they were."""
        label = before.labels.get(PARTITIONING_LABEL)
        await self._api.mark_node(
            before.name, {PARTITIONING_LABEL: label}, {MIG_MODE_ANNOTATION: before.mig_mode or None}
        )


def _cannot_be_cut(name: str) -> BadInput:
    return BadInput(
        f"no GPU of node {name} can be cut into MIG slices",
        hint="`cdmo status` shows its cards; NVIDIA's MIG guide lists those that have MIG",
    )
