"""Keeping binds off this node while it changes: taint and label, proved by a dry-run Binding.

The taint keeps the scheduler from trying (a refused bind puts a pod on the scheduler's error back-off, which no
event shortens); the label makes the API server refuse what was already on its way. The label is the fence. The
taint is also what tells the scheduler of the new counts in time: both are on the same object, so when it hears that
the taint is gone it has heard of them. That it has heard of the taint at all is proved as well (witness.py). Order:
taint and label in one write, proofs, mark; and back: proof that it held, label, proof that it is gone, taint.

The label has two values. `true`: nothing has been touched, and the controller may lift the fence of an agent that
is silent for long. `changing`: kubelet and hardware may disagree, pods bound now could be lost, and only the node's
agent can tell when that is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cdmo.agent.witness import Heard, Witness
from cdmo.errors import ClusterError, FenceLapsed, SchedulerSilent
from cdmo.kube.port import FenceApi, Provided, in_any_case
from cdmo.model.cluster import NodeInfo, carries_fence
from cdmo.model.names import (
    CHANGE_LABEL,
    FENCE_CHANGING,
    FENCE_LABEL,
    FENCE_VALUE,
    REPARTITIONING_TAINT,
    SCHEDULER,
)
from cdmo.runtime.clock import Clock
from cdmo.runtime.pauses import growing
from cdmo.runtime.together import together

_Probe = Callable[[str], Awaitable[bool]]  # asked with an API server's URL


@dataclass(frozen=True, slots=True)
class FenceLimits:
    """How long the fence may take. Seconds; on Kubernetes 1.37 it is live 2 ms after the label (worst seen 70)."""

    rise: float = 10.0
    fall: float = 10.0
    probe_pause: float = 0.003  # between two probes of one API server, doubled up to 0.1
    heard: float = 10.0  # for the scheduler to show that it knows of the taint; usually milliseconds
    settle: float = 0.02  # a bind admitted just before the fence commits within milliseconds


class Fence:
    """The fence of one node. Only this node's agent raises and lowers it."""

    def __init__(self, api: FenceApi, node: str, clock: Clock, limits: FenceLimits, witness: Witness) -> None:
        self._api = api
        self._witness = witness
        self._node = node
        self._clock = clock
        self._limits = limits
        self._servers: tuple[str, ...] = ()
        self.unasked = False  # whether the scheduler knows of it could not be asked
        self._inherited: bool | None = None  # None: the Node was not seen since this change began

    async def is_up(self) -> bool:
        """Whether the Node carries the fence's label or taint, whoever put them there."""
        return carries_fence(await self._api.node(self._node))

    async def inherited(self) -> bool:
        """Whether the change that is under way found the fence as an interrupted one had left it."""
        if self._inherited is None:
            node = await self._api.node(self._node)
            self._inherited = node.labels.get(FENCE_LABEL) == FENCE_CHANGING
        return self._inherited

    async def raise_(self) -> NodeInfo:
        """Put the fence up and return the Node that has it, when every API server refuses bindings, the fence is this
        agent's alone and the scheduler has shown that it knows. Raises FenceLapsed or SchedulerSilent if that is not
        so in time: the caller must lower what is there, unless it is inherited, and must not change anything."""
        change = await self._witness.begin()
        self._inherited = None

        def labels(has: Mapping[str, str]) -> Mapping[str, str]:
            # One that an interrupted change left says more than a fresh one, and stays as it is.
            self._inherited = has.get(FENCE_LABEL) == FENCE_CHANGING
            return {FENCE_LABEL: FENCE_CHANGING if self._inherited else FENCE_VALUE, CHANGE_LABEL: change}

        put_up = self._api.set_taint(self._node, REPARTITIONING_TAINT, "NoSchedule", labels)
        (node, since), self._servers = await together(put_up, self._api.api_servers())
        # Neither waits for the other: a scheduler that knows of the taint does not forget it.
        _, heard = await together(self._proved(since), self._witness.heard())
        self.unasked = heard is Heard.UNASKED
        if heard is Heard.NO:
            raise SchedulerSilent(
                f"the scheduler has not shown within {self._limits.heard:g} s that it knows of the taint of node "
                f"{self._node}",
                hint="nothing was touched; the change is tried again. Is the scheduler at work? Where another one "
                f"than `{SCHEDULER}` places the pods, name it in the agent's `--scheduler`",
            )
        return node

    async def _proved(self, since: int) -> None:
        """Return when no bind gets through any more, and nobody else may change that."""
        await self._await_all(self._refuses(since), "live", self._limits.rise)
        live = self._clock.monotonic()
        await self._mark()
        await self._clock.sleep(max(0.0, self._limits.settle - (self._clock.monotonic() - live)))

    async def _mark(self) -> None:
        """Say on the Node that from now on only this agent may lift the fence: something is about to be touched.

        Raises FenceLapsed when the fence is no longer there: an agent that stood still for long, paused or cut off,
        may find that the controller gave it up. Both write the same label, each only over the value it knows.
        """
        if not await self._api.swap_label(
            self._node, FENCE_LABEL, FENCE_VALUE, FENCE_CHANGING, beside=REPARTITIONING_TAINT
        ):
            await self._check_marked()

    def dismiss_witness(self) -> None:
        """The proof is given. While the hardware is at work nobody waits for its deletion; at the end pods would."""
        self._witness.begin_dismissal()

    async def _check_marked(self) -> None:
        """The label was not `true` beside the taint: fine if it is this agent's own already."""
        node = await self._api.node(self._node)
        tainted = any(each.key == REPARTITIONING_TAINT for each in node.taints)
        if node.labels.get(FENCE_LABEL) != FENCE_CHANGING or not tainted:
            raise FenceLapsed(
                f"the fence of node {self._node} was lifted before anything was changed",
                hint="nothing was touched; the change is tried again",
            )

    async def verify(self) -> None:
        """Prove that it still stands. Raises FenceLapsed."""
        probes = (self._api.refused_as_of(self._node, each) for each in self._servers)
        if None in await asyncio.gather(*probes):
            raise FenceLapsed(
                f"bindings to node {self._node} were possible while it was being changed",
                hint=f"who removed the label {FENCE_LABEL} or the admission policy? Nothing else may touch them",
            )

    async def lower(self, provided: Provided = in_any_case) -> bool:
        """Take the fence down, whatever is left of it, and return when bindings are possible again: True. Where the
        Node is not as `provided` when its label is to go, nothing is done: False."""
        servers = self._servers or await self._api.api_servers()
        if not await self._api.set_labels(self._node, {FENCE_LABEL: None, CHANGE_LABEL: None}, provided):
            return False
        self._servers = servers
        try:
            await together(self._await_all(self._allows, "gone", self._limits.fall), self._witness.dismiss())
        finally:
            await self._api.remove_taint(self._node, REPARTITIONING_TAINT)
        return True

    def _refuses(self, since: int) -> _Probe:
        """Whether an API server refuses bindings, knowing the Node as it was at `since` or later. One that lags
        behind may still refuse because of an earlier fence, hear of its end next, and let a binding through."""

        async def probe(server: str) -> bool:
            version = await self._api.refused_as_of(self._node, server)
            return version is not None and version >= since

        return probe

    async def _allows(self, server: str) -> bool:
        return await self._api.refused_as_of(self._node, server) is None

    async def _await_all(self, holds: _Probe, state: str, limit: float) -> None:
        waits = (self._await_one(server, holds, state, limit) for server in self._servers)
        for answer in await asyncio.gather(*waits, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def _await_one(self, server: str, holds: _Probe, state: str, limit: float) -> None:
        deadline = self._clock.monotonic() + limit
        pauses = growing(self._limits.probe_pause, 2, 0.1)
        last: ClusterError | None = None
        while self._clock.monotonic() < deadline:
            try:
                if await holds(server):
                    return
            except ClusterError as error:
                if not error.retryable:
                    raise
                last = error
            await self._clock.sleep(next(pauses))
        raise FenceLapsed(
            f"the fence of node {self._node} was not {state} after {limit:g} s at API server {server}"
            + (f" ({last})" if last else ""),
            hint="is the ValidatingAdmissionPolicy cdmo-fence installed, with its binding? `kubectl get "
            "validatingadmissionpolicies`",
        ) from last
