"""Which device plugins the kubelet is connected to, and in what order it notices that they came and went.

Modelled on pkg/kubelet/cm/devicemanager/plugin/v1beta1/handler.go. The order of its steps is the point: in 1.37 a
plugin that registers again on the same socket before the end of its old stream was handled makes the kubelet lose
track of both streams, and the resource stays broken until the kubelet restarts. Nothing here does that on
purpose; it follows from the same bookkeeping. Before 1.37 there was one client a resource, and a late end of the
old stream disconnected the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from .device_manager import DeviceManager
from .devices import Device, Endpoint, EndpointFailed, PluginOptions

_log = structlog.get_logger(__name__)


class PluginConnection(Endpoint, Protocol):
    """An open connection to one plugin socket."""

    async def options(self) -> PluginOptions: ...

    def lists(self) -> AsyncIterator[Sequence[Device]]:
        """The plugin's ListAndWatch stream; it ends when the plugin goes."""
        ...

    async def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class _Client:
    resource: str
    socket_path: str
    connection: PluginConnection | None = None


@dataclass(slots=True)
class PluginClients:
    """The registration server's list of clients. `dial` raises EndpointFailed when nobody answers.

    `end_delay` is how many seconds the end of a stream waits to be handled: 0 for an idle kubelet, more for one that
    is throttled or busy. The real kubelet handles it in a goroutine that nothing orders before a new Register call.
    """

    manager: DeviceManager
    dial: Callable[[str], Awaitable[PluginConnection]]
    devices_changed: Callable[[frozenset[str]], None]  # called with UIDs of pods that hold a changed device
    spawn: Callable[[Awaitable[None], str], None]  # starts a named background task
    end_delay: float = 0.0
    clients: dict[str, list[_Client]] = field(default_factory=dict)

    async def register(self, resource: str, socket_path: str) -> None:
        """A plugin's Register call. Raises EndpointFailed with the text that the plugin gets back."""
        client = _Client(resource, socket_path)
        if self.manager.kubelet_minor >= 37:
            self.clients.setdefault(resource, []).append(client)
        else:
            self.clients[resource] = [client]
        try:
            client.connection = await self.dial(socket_path)
            options = await client.connection.options()
            self.manager.plugin_connected(resource, client.connection, options)
        except EndpointFailed as error:
            self._deregister(resource, socket_path)
            _log.error("plugin refused", resource=resource, socket=socket_path, error=str(error))
            raise
        _log.info("plugin connected", resource=resource, socket=socket_path)
        self.spawn(self._run(client), f"plugin {resource}")

    async def disconnect_all(self) -> None:
        """The kubelet stops."""
        for clients in [list(found) for found in self.clients.values()]:
            for client in clients:
                await self._disconnect(client)

    async def _run(self, client: _Client) -> None:
        if client.connection is None:
            raise AssertionError("only a connected client is run")
        try:
            async for devices in client.connection.lists():
                _log.info("devices listed", resource=client.resource, count=len(devices))
                self.devices_changed(self.manager.devices_listed(client.resource, devices))
        except EndpointFailed as error:
            _log.info("plugin stream ended", resource=client.resource, error=str(error))
        if self.end_delay > 0:
            await asyncio.sleep(self.end_delay)
        # Not `client`: whoever is on the list under this socket now, which may be another or nobody.
        current = self._find(client.resource, client.socket_path)
        if current is not None:
            await self._disconnect(current)

    async def _disconnect(self, client: _Client) -> None:
        self._deregister(client.resource, client.socket_path)
        connection, client.connection = client.connection, None
        # The close may take a moment; the bookkeeping does not wait for it.
        self.manager.plugin_disconnected(client.resource, client.socket_path)
        _log.info("plugin disconnected", resource=client.resource, socket=client.socket_path)
        if connection is not None:
            await asyncio.shield(connection.close())

    def _find(self, resource: str, socket_path: str) -> _Client | None:
        for client in self.clients.get(resource, ()):
            if client.socket_path == socket_path or self.manager.kubelet_minor < 37:
                return client
        return None

    def _deregister(self, resource: str, socket_path: str) -> None:
        left = [
            client
            for client in self.clients.get(resource, ())
            if self.manager.kubelet_minor >= 37 and client.socket_path != socket_path
        ]
        if left:
            self.clients[resource] = left
        else:
            self.clients.pop(resource, None)
