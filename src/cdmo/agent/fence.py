"""Keeping binds off this node while it changes: taint and label, proved by a dry-run Binding.

The taint keeps the scheduler from trying (a refused bind puts a pod on the scheduler's error back-off, which no
event shortens); the label makes the API server refuse what was already on its way. The label is the fence; the
taint is politeness. Order: taint, label, proof; and back: proof that it held, label, proof that it is gone, taint.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cdmo.errors import ClusterError, FenceLapsed
from cdmo.kube.port import FenceApi
from cdmo.model.cluster import carries_fence
from cdmo.model.names import FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT
from cdmo.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class FenceLimits:
    """How long the fence may take. Seconds; on Kubernetes 1.37 it is live 2 ms after the label (worst seen 70)."""

    rise: float = 10.0
    fall: float = 10.0
    probe_pause: float = 0.003  # between two probes of one API server, doubled up to 0.1
    settle: float = 0.02  # a bind admitted just before the fence commits within milliseconds


class Fence:
    """The fence of one node. Only this node's agent raises and lowers it."""

    def __init__(self, api: FenceApi, node: str, clock: Clock, limits: FenceLimits) -> None:
        self._api = api
        self._node = node
        self._clock = clock
        self._limits = limits
        self._servers: tuple[str, ...] = ()

    async def is_up(self) -> bool:
        """Whether the Node carries the fence's label or taint, whoever put them there."""
        return carries_fence(await self._api.node(self._node))

    async def raise_(self) -> None:
        """Put the fence up and return when every API server refuses bindings. Raises FenceLapsed if none comes
        about in time: the caller must lower what is there and must not change anything."""
        self._servers, _ = await asyncio.gather(
            self._api.api_servers(), self._api.set_taint(self._node, REPARTITIONING_TAINT, "NoSchedule")
        )
        await self._api.set_labels(self._node, {FENCE_LABEL: FENCE_VALUE})
        await self._await_all(refused=True, limit=self._limits.rise)
        await self._clock.sleep(self._limits.settle)

    async def verify(self) -> None:
        """Prove that it still stands. Raises FenceLapsed."""
        probes = (self._api.binding_refused(self._node, each) for each in self._servers)
        if not all(await asyncio.gather(*probes)):
            raise FenceLapsed(
                f"bindings to node {self._node} were possible while it was being changed",
                hint=f"who removed the label {FENCE_LABEL} or the admission policy? Nothing else may touch them",
            )

    async def lower(self) -> None:
        """Take the fence down, whatever is left of it, and return when bindings are possible again."""
        servers = self._servers or await self._api.api_servers()
        await self._api.set_labels(self._node, {FENCE_LABEL: None})
        self._servers = servers
        try:
            await self._await_all(refused=False, limit=self._limits.fall)
        finally:
            await self._api.remove_taint(self._node, REPARTITIONING_TAINT)

    async def _await_all(self, *, refused: bool, limit: float) -> None:
        waits = (self._await_one(server, refused, limit) for server in self._servers)
        for answer in await asyncio.gather(*waits, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def _await_one(self, server: str, refused: bool, limit: float) -> None:
        deadline = self._clock.monotonic() + limit
        pause = self._limits.probe_pause
        last: ClusterError | None = None
        while self._clock.monotonic() < deadline:
            try:
                if await self._api.binding_refused(self._node, server) is refused:
                    return
            except ClusterError as error:
                if not error.retryable:
                    raise
                last = error
            await self._clock.sleep(pause)
            pause = min(pause * 2, 0.1)
        state = "live" if refused else "gone"
        raise FenceLapsed(
            f"the fence of node {self._node} was not {state} after {limit:g} s at API server {server}"
            + (f" ({last})" if last else ""),
            hint="is the ValidatingAdmissionPolicy cdmo-fence installed, with its binding? `kubectl get "
            "validatingadmissionpolicies`",
        ) from last
