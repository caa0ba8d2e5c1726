"""A proxy in front of the session's control plane, and a client of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cdmo_harness.api_proxy import ApiProxy

from cdmo.kube.connect import Connection
from tests.proxied import kubeconfig, proxy, running_proxy, through

__all__ = ["kubeconfig", "proxy", "running_proxy"]

_NUMBERS = itertools.count(1)


@pytest.fixture
def client() -> str:
    """A name for the test's client that no other test has."""
    return f"client-{next(_NUMBERS)}"


@pytest.fixture
async def connection(proxy: ApiProxy, kubeconfig: Path, client: str) -> AsyncIterator[Connection]:
    """CDMO's client through the proxy."""
    async with through(proxy, kubeconfig, client) as opened:
        yield opened
