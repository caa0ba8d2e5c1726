"""The real control plane behind the API proxy: a client with a token that may do everything, and what it lists."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.api_proxy import ApiProxy
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.errors import ControlPlaneError

from cdmo.kube.connect import Connection, ConnectSettings, connect

LIMIT_S = 45.0
SEED = 20261124
ACCOUNT = "proxied"
_PROXIES = itertools.count(1)
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def administrator(control_plane: ControlPlane) -> Path:
    """A kubeconfig with a token of a ServiceAccount that may do everything."""
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "default"}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
    for path, content in ((accounts, account), (f"{_RBAC}/clusterrolebindings", binding)):
        with suppress(ControlPlaneError):  # another test has made it
            control_plane.api.create(path, content)
    return control_plane.service_account_kubeconfig("default", ACCOUNT)


@contextmanager
def proxy_before(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy for the block."""
    with ApiProxy.for_control_plane(control_plane, seed=SEED, name=f"proxy-{next(_PROXIES)}") as proxy:
        yield proxy


@pytest.fixture(scope="package")
def running_proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    """One proxy for the tests of a folder."""
    with proxy_before(control_plane) as made:
        yield made


@pytest.fixture(scope="package")
def kubeconfig(control_plane: ControlPlane) -> Path:
    """A token that may do everything."""
    return administrator(control_plane)


@pytest.fixture
def proxy(running_proxy: ApiProxy) -> Iterator[ApiProxy]:
    """The proxy, without faults before and after."""
    running_proxy.clear()
    yield running_proxy
    running_proxy.clear()


def through(proxy: ApiProxy, kubeconfig: Path, client: str = "tested") -> Connection:
    """A connection of CDMO's own client through the proxy."""
    return connect(ConnectSettings(kubeconfig=proxy.kubeconfig_for(kubeconfig, client)), {})


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A small object that nobody else cares about."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition on objects of this process, or on a proxy: asked again at each turn of the loop."""
    async with asyncio.timeout(limit_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  (it may be in another process)
            await asyncio.sleep(0)
