"""One resource of the plugin: its socket, its answers to the kubelet, its registration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from cdmo_harness._pb import deviceplugin_pb2 as api
from cdmo_harness._pb import deviceplugin_pb2_grpc as services

from .inventory import PluginDevice

_log = structlog.get_logger(__name__)

API_VERSION = "v1beta1"
DEVICE_LIST_FOLDER = "/var/run/nvidia-container-devices"
DEVICE_LIST_VARIABLE = "NVIDIA_VISIBLE_DEVICES"
# What PASS_DEVICE_SPECS adds to a device's own nodes; each only if it is there (nvidia-modeset often is not).
_CONTROL_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_REGISTER_LIMIT = 5.0  # seconds to reach the kubelet
_CHANNEL_OPTIONS = (
    ("grpc.default_authority", "localhost"),  # else the socket's path is sent, which Go servers refuse
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # the kubelet may make its socket a moment later
)


class StartFailed(Exception):
    """The resource could not be served or registered; the plugin tries everything again in 30 seconds."""


def socket_name(resource: str) -> str:
    """The fixed name of a resource's socket: the kubelet meets the same path after every restart."""
    return f"nvidia-{resource.rpartition('/')[2]}.sock"


class ResourceServer:
    """Serves one resource from `start` to `stop`; never started twice."""

    def __init__(
        self,
        resource: str,
        devices: Sequence[PluginDevice],
        root: Path,
        folder: Path,
        *,
        device_root: Path = Path("/"),
    ) -> None:
        """`device_root`: where the kubelet's host has the device nodes, the real plugin's NVIDIA_DEV_ROOT."""
        self.resource = resource
        self._devices = {device.id: device for device in devices}
        self._root = root
        self._folder = folder
        self._device_root = device_root
        self._unhealthy: set[str] = set()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    @property
    def path(self) -> Path:
        """The socket."""
        return self._folder / socket_name(self.resource)

    async def start(self, kubelet_socket: Path) -> None:
        """Serve, then register. Raises StartFailed, with the socket removed again."""
        self.path.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        services.add_DevicePluginServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.path}")
        await self._server.start()
        _log.info("serving", resource=self.resource, devices=len(self._devices))
        try:
            await self._register(kubelet_socket)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            text = (
                f"rpc error: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else "no kubelet answers"
            )
            _log.error(f"Could not register device plugin: {text}", resource=self.resource)
            await self.stop()
            raise StartFailed(text) from error
        _log.info("registered", resource=self.resource)

    async def stop(self) -> None:
        """Break all connections and remove the socket."""
        self._stopping.set()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)
            with suppress(FileNotFoundError):
                self.path.unlink()

    def mark_unhealthy(self, device_ids: Sequence[str]) -> None:
        """These devices stay unhealthy until the GPUs are looked at again."""
        fresh = [i for i in device_ids if i in self._devices and i not in self._unhealthy]
        if fresh:
            self._unhealthy.update(fresh)
            self._changed.set()

    async def _register(self, kubelet_socket: Path) -> None:
        async with grpc.aio.insecure_channel(f"unix:{kubelet_socket}", options=_CHANNEL_OPTIONS) as channel:
            async with asyncio.timeout(_REGISTER_LIMIT):
                await channel.channel_ready()
            stub = services.RegistrationStub(channel)
            options = api.DevicePluginOptions(get_preferred_allocation_available=True)
            request = api.RegisterRequest(
                version=API_VERSION, endpoint=self.path.name, resource_name=self.resource, options=options
            )
            await stub.Register(request)

    # ---- the gRPC service ----------------------------------------------------------------------------------

    async def GetDevicePluginOptions(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """Preferred allocation, no pre-start call."""
        return api.DevicePluginOptions(get_preferred_allocation_available=True)

    async def ListAndWatch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 the gRPC method's name
        """The list, and again after each change of health, until the plugin stops."""
        while not self._stopping.is_set():
            self._changed.clear()
            yield api.ListAndWatchResponse(
                devices=[
                    api.Device(ID=i, health="Unhealthy" if i in self._unhealthy else "Healthy") for i in self._devices
                ]
            )
            await self._changed.wait()

    async def GetPreferredAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """MIG devices have no neighbours to prefer: what must be included, then any others."""
        responses = []
        for asked in request.container_requests:
            included = list(asked.must_include_deviceIDs)
            candidates = [i for i in asked.available_deviceIDs if i not in included and i in self._devices]
            needed = asked.allocation_size - len(included)
            if len(candidates) < needed:
                cause = "not enough available devices to satisfy allocation"
                text = f"error getting list of preferred allocation devices: {cause}"
                await context.abort(grpc.StatusCode.UNKNOWN, text)
            chosen = included + candidates[: max(0, needed)]
            responses.append(api.ContainerPreferredAllocationResponse(deviceIDs=chosen))
        return api.PreferredAllocationResponse(container_responses=responses)

    async def Allocate(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """What a container needs for its devices, from the list made at the last look, not from the driver."""
        responses = []
        for asked in request.container_requests:
            unknown = next((i for i in asked.devices_ids if i not in self._devices), None)
            if unknown is not None:
                text = f'invalid allocation request for "{self.resource}": unknown device: {unknown}'
                await context.abort(grpc.StatusCode.UNKNOWN, text)
            responses.append(self._allocation([self._devices[i] for i in asked.devices_ids]))
        return api.AllocateResponse(container_responses=responses)

    async def PreStartContainer(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """Never asked for."""
        return api.PreStartContainerResponse()

    def _allocation(self, devices: Sequence[PluginDevice]) -> Any:
        mounts = [
            api.Mount(host_path="/dev/null", container_path=f"{DEVICE_LIST_FOLDER}/{device.id}") for device in devices
        ]
        control = [path for path in _CONTROL_NODES if (self._root / path.lstrip("/")).exists()]
        own = [path for device in devices for path in device.paths]
        specs = [
            api.DeviceSpec(container_path=path, host_path=str(self._device_root / path.lstrip("/")), permissions="rw")
            for path in dict.fromkeys([*control, *own])
        ]
        return api.ContainerAllocateResponse(
            envs={DEVICE_LIST_VARIABLE: DEVICE_LIST_FOLDER}, mounts=mounts, devices=specs
        )
