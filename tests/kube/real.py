"""The port on the real control plane: a connection, objects to begin with, and waiting with a limit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from cdmo_harness.control_plane import ControlPlane

from cdmo.kube.client import KubeClient
from cdmo.kube.connect import Connection, ConnectSettings, connect
from cdmo.kube.port import FenceApi
from cdmo.kube.resources import POD, Ask, Kind
from cdmo.model.names import FENCE_LABEL, FENCE_VALUE
from cdmo.runtime.clock import SystemClock

LIMIT_S = 15.0
FENCE_MANIFEST = Path(__file__).parents[2] / "deploy" / "policy" / "fence.yaml"
NAMESPACE = Kind("Namespace", "namespaces")


def as_administrator(control_plane: ControlPlane) -> Connection:
    """A connection that may do everything."""
    return connect(ConnectSettings(kubeconfig=control_plane.admin_kubeconfig), {})


def client_of(connection: Connection) -> KubeClient:
    """The port in real time."""
    return KubeClient(connection, SystemClock(), random.random)


async def create(
    connection: Connection, kind: Kind, content: Any, *, namespace: str = "", dry_run: bool = False
) -> Any:
    """Create an object as it is; what the API server made of it."""
    ask = Ask("create", kind, namespace=namespace)
    params = {"dryRun": "All"} if dry_run else {}
    return msgspec.json.decode(await connection.call(ask, body=msgspec.json.encode(content), params=params))


async def create_pod(connection: Connection, name: str, *, namespace: str = "default", **spec: Any) -> Any:
    """A pod whose one container asks for nothing, unless told otherwise."""
    content = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "registry.example/app"}], "schedulerName": "nobody", **spec},
    }
    return await create(connection, POD, content, namespace=namespace)


async def eventually(holds: Callable[[], Awaitable[bool]], limit_s: float = LIMIT_S) -> None:
    """Ask again until it holds; each question is a round trip to the API server."""
    async with asyncio.timeout(limit_s):
        while not await holds():  # noqa: ASYNC110  (what is waited for is in another process)
            await asyncio.sleep(0)


async def fence_stands(fence: FenceApi, node: str, server: str, stands: bool) -> None:
    """Wait until the probe says so."""

    async def says_so() -> bool:
        return (await fence.refused_as_of(node, server) is not None) is stands

    await eventually(says_so)


async def put_fence(fence: FenceApi, node: str, up: bool) -> None:
    """Set or remove the label the policy looks for."""
    await fence.set_labels(node, {FENCE_LABEL: FENCE_VALUE if up else None})
