"""Waits until no node is in the middle of a change, and keeps the controllers from planning the next one meanwhile.

The controllers are held by their own Lease: whoever holds it plans, and this holds it and does not plan. It is
written once, with the seconds for which it is meant. After that the controllers lead again by themselves, so nothing
is left standing still when this process, or the uninstall after it, ends half-way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from cdmo.api.decoding import decoder
from cdmo.api.v1alpha1 import MigNode
from cdmo.doctor.settling import Remains, Unsettled, remains, unsettled
from cdmo.errors import ChangeStuck, ClusterError, Conflict, NotFound
from cdmo.kube.connect import MERGE_PATCH, Connection
from cdmo.kube.errors import translate
from cdmo.kube.lease import LeaseTimes
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.pages import pages
from cdmo.kube.resources import LEASE, MIG_NODE, NODE, Ask, Kind
from cdmo.kube.slim import node_info
from cdmo.model.cluster import NodeInfo
from cdmo.model.names import LEASE_NAME
from cdmo.runtime.clock import Clock

T = TypeVar("T")

HOLDER = "cdmo-settle"
AFTERWARDS = 30.0  # seconds for which planning is still held at the end: until the controllers are gone
PAUSE = 2.0  # seconds between two looks
MOST_NAMED = 3  # nodes in the sentence of a failure
_PAGE = "500"
_TRIES = 10  # to write the Lease between two renewals of its holder


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None


class _LeaseMetadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str | None = None


class _Lease(msgspec.Struct, frozen=True):
    metadata: _LeaseMetadata = _LeaseMetadata()
    spec: _LeaseSpec | None = None


_decode_lease = decoder(_Lease)


class PlanningHold:
    """Holds the controllers' Lease. Nobody has to give it back: it runs out."""

    def __init__(self, connection: Connection, namespace: str, clock: Clock) -> None:
        self._connection = connection
        self._namespace = namespace
        self._clock = clock

    async def take(self, seconds: float) -> float:
        """Take it for this long from whoever has it; returns the seconds after which that one has stopped planning.
        Raises ClusterError."""
        for _ in range(_TRIES):
            try:
                lease = await self._read()
            except NotFound:
                return 0.0  # no controller ever led
            try:
                await self._write(lease, HOLDER, math.ceil(seconds))
            except Conflict:
                continue  # its holder renewed it in between
            held = lease.spec.holder_identity if lease.spec else ""
            return LeaseTimes().renew_s if held and held != HOLDER else 0.0
        raise Conflict(f"the Lease {self._namespace}/{LEASE_NAME} could not be taken", hint="try again")

    async def give_back(self) -> None:
        """Let the controllers lead at once. Raises ClusterError."""
        try:
            lease = await self._read()
            if lease.spec and lease.spec.holder_identity == HOLDER:
                await self._write(lease, "", 1)
        except NotFound:
            return

    async def _read(self) -> _Lease:
        ask = Ask("get", LEASE, LEASE_NAME, self._namespace)
        body = await self._connection.call(ask)
        try:
            return _decode_lease(body)
        except msgspec.MsgspecError as error:
            raise translate(error, ask) from error

    async def _write(self, lease: _Lease, holder: str, seconds: int) -> None:
        now = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # a MicroTime
        spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "acquireTime": now, "renewTime": now}
        body = msgspec.json.encode({"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": spec})
        ask = Ask("patch", LEASE, LEASE_NAME, self._namespace)
        await self._connection.call(ask, body=body, content_type=MERGE_PATCH)


@dataclass(frozen=True, slots=True)
class _Look:
    """The cluster at one moment."""

    nodes: tuple[NodeInfo, ...]
    mig_nodes: tuple[MigNode, ...]

    def unsettled(self, now: float) -> tuple[Unsettled, ...]:
        return unsettled(self.nodes, self.mig_nodes, now)


async def settle(connection: Connection, clock: Clock, wait_s: float, hold: PlanningHold | None = None) -> Remains:
    """Wait at most `wait_s` seconds until no node is in the middle of a change; what is left then.

    With `hold` the planner's last plan may take some seconds more to show, and is waited for whatever `wait_s` says;
    at the end planning is held for AFTERWARDS.
    Raises ChangeStuck when a node is still in the middle, Conflict when planning could not be held for as long as it
    took, ClusterError when the cluster cannot be read.
    """
    if hold is None:
        return await _settled(connection, clock, wait_s, 0.0)
    stopped_after = await hold.take(wait_s + LeaseTimes().renew_s + AFTERWARDS)
    try:
        left = await _settled(connection, clock, wait_s, stopped_after)
        if await hold.take(AFTERWARDS):
            raise Conflict(
                "a controller planned again before the last look: the cluster answered too slowly",
                hint="try again, with less to wait for",
            )
        return left
    except Exception:
        with suppress(ClusterError):  # else it runs out
            await hold.give_back()
        raise


async def _settled(connection: Connection, clock: Clock, wait_s: float, not_before_s: float) -> Remains:
    began = clock.monotonic()
    while True:
        passed = clock.monotonic() - began
        try:
            look = await _look(connection)
        except ClusterError as error:
            if not error.retryable or passed >= wait_s:
                raise
            await clock.sleep(PAUSE)
            continue
        found = look.unsettled(clock.now())
        if not found and passed >= not_before_s:
            return remains(look.nodes, look.mig_nodes)
        if found and passed >= max(wait_s, not_before_s):
            raise _still_changing(found, passed)
        await clock.sleep(PAUSE)


def _still_changing(found: tuple[Unsettled, ...], passed: float) -> ChangeStuck:
    named = "; ".join(f"{each.node}: {each.sentence}" for each in found[:MOST_NAMED])
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    nodes = "1 node is" if len(found) == 1 else f"{len(found)} nodes are"
    return ChangeStuck(
        f"{nodes} in the middle of a change after {passed:.0f} s ({named}{more})",
        hint="try again later; what is uninstalled now all the same (`helm uninstall --no-hooks`) leaves these nodes "
        "fenced until CDMO is installed again",
    )


async def _look(connection: Connection) -> _Look:
    # Nodes first: a change that begins in between shows in the MigNode at the latest.
    nodes = await _all(connection, NODE, node_info)
    try:
        return _Look(nodes, await _all(connection, MIG_NODE, mig_node))
    except NotFound:
        return _Look(nodes, ())  # the CRD is gone, and nobody works without it


async def _all(connection: Connection, kind: Kind, convert: Callable[[msgspec.Raw], T]) -> tuple[T, ...]:
    ask = Ask("list", kind)
    found: list[T] = []
    async for page in pages(connection, ask, {"limit": _PAGE}):
        try:
            found += [convert(raw) for raw in page.items or ()]
        except (msgspec.MsgspecError, ValueError) as error:
            raise translate(error, ask) from error
    return tuple(found)
