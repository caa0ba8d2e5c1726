"""What users do to their pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from cdmo_harness.chaos.schedule import FaultKind, Planned, Where
from cdmo_harness.chaos.stage import Stage

_MOST = 6


@asynccontextmanager
async def force_deleted(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """`kubectl delete pod --force`: the objects are gone at once, the processes run on for a while."""
    await _delete(stage, fault, phase="Running", grace_seconds=0)
    yield


@asynccontextmanager
async def bound_pods_deleted(stage: Stage, fault: Planned) -> AsyncIterator[None]:
    """Users change their minds while their pods start."""
    await _delete(stage, fault, phase="Pending", grace_seconds=Random(fault.seed).choice((0, 1)))
    yield


async def _delete(stage: Stage, fault: Planned, *, phase: str, grace_seconds: int) -> None:
    here = sorted(
        key
        for key in stage.open
        if (pod := stage.view.pods.get(key)) is not None
        and key not in stage.view.gone
        and pod.phase == phase
        and pod.info.node_name in (fault.target, "")
    )
    chosen = Random(fault.seed).sample(here, k=min(_MOST, len(here)))
    for key in chosen:
        stage.deleted.add(key)  # before: from here on nobody may call it forgotten
        namespace, name = key.split("/")
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        await stage.delete(path, grace_seconds=grace_seconds)
    await asyncio.sleep(0)


PODS = (
    FaultKind("pods deleted by force", force_deleted, Where.NODE, (0.1, 1.0), ("pods/{}",), weight=3),
    FaultKind("starting pods deleted", bound_pods_deleted, Where.NODE, (0.1, 1.0), ("pods/{}",), weight=2),
)
