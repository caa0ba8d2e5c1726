"""gRPC to a device plugin's socket, and the kubelet's Registration service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cdmo_harness._pb import deviceplugin_pb2 as api
from cdmo_harness._pb import deviceplugin_pb2_grpc as services

from .devices import ContainerResponse, Device, EndpointFailed, PluginOptions
from .plugins import PluginClients

API_VERSION = "v1beta1"
# Without it gRPC sends the socket's path as authority, which Go servers refuse.
CHANNEL_OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_retries", 0),
    # A plugin comes back under the same path: a shared subchannel would make its new connection wait for the old
    # one's back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
)
_DIAL_LIMIT = 10.0  # seconds, as the kubelet waits
_EXTENDED_RESOURCE = re.compile(
    r"^(?!requests\.)(?!.*kubernetes\.io/)[a-z0-9][a-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"
)


class GrpcPlugin:
    """A PluginConnection over a Unix socket."""

    def __init__(self, socket_path: str, channel: grpc.aio.Channel) -> None:
        self.socket_path = socket_path
        self._channel = channel
        self._stub = services.DevicePluginStub(channel)

    @classmethod
    async def dial(cls, socket_path: str) -> GrpcPlugin:
        """Connect; raises EndpointFailed when nobody answers for ten seconds."""
        channel = grpc.aio.insecure_channel(f"unix:{socket_path}", options=CHANNEL_OPTIONS)
        try:
            async with asyncio.timeout(_DIAL_LIMIT):
                await channel.channel_ready()
        except TimeoutError as error:
            await channel.close()
            raise EndpointFailed("failed to dial device plugin: context deadline exceeded") from error
        return cls(socket_path, channel)

    async def options(self) -> PluginOptions:
        """What the plugin offers."""
        try:
            answer = await self._stub.GetDevicePluginOptions(api.Empty())
        except grpc.aio.AioRpcError as error:
            raise EndpointFailed(f"failed to get device plugin options: {self._text(error)}") from error
        return PluginOptions(answer.get_preferred_allocation_available, answer.pre_start_required)

    async def lists(self) -> AsyncIterator[Sequence[Device]]:
        """Each message of ListAndWatch; EndpointFailed when the stream breaks."""
        try:
            async for message in self._stub.ListAndWatch(api.Empty()):
                yield [_device(device) for device in message.devices]
        except grpc.aio.AioRpcError as error:
            raise EndpointFailed(self._text(error)) from error
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            # Our own close of the channel surfaces as a cancelled call.
            raise EndpointFailed("rpc error: code = Canceled desc = grpc: the client connection is closing") from None

    async def allocate(self, device_ids: Sequence[str]) -> ContainerResponse:
        """Ask for these devices for one container."""
        request = api.AllocateRequest(container_requests=[api.ContainerAllocateRequest(devices_ids=device_ids)])
        answer = await self._call(self._stub.Allocate, request)
        if not answer.container_responses:
            raise EndpointFailed(f"no containers return in allocation response {answer}")
        response = answer.container_responses[0]
        paths = tuple(device.host_path for device in response.devices)
        return ContainerResponse(paths, response.SerializeToString())

    async def preferred(self, available: Sequence[str], must_include: Sequence[str], size: int) -> frozenset[str]:
        """Which of the available devices the plugin would rather give away."""
        request = api.PreferredAllocationRequest(
            container_requests=[
                api.ContainerPreferredAllocationRequest(
                    available_deviceIDs=available, must_include_deviceIDs=must_include, allocation_size=size
                )
            ]
        )
        answer = await self._call(self._stub.GetPreferredAllocation, request)
        responses = answer.container_responses
        return frozenset(responses[0].deviceIDs) if responses else frozenset()

    async def close(self) -> None:
        """Break the connection, and with it every call that runs on it."""
        await self._channel.close()

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as error:
            raise EndpointFailed(self._text(error)) from error
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise EndpointFailed("rpc error: code = Canceled desc = grpc: the client connection is closing") from None

    def _text(self, error: grpc.aio.AioRpcError | grpc.aio.UsageError) -> str:
        """The failure as the kubelet's Go client words it: tests and people match on these lines."""
        if not isinstance(error, grpc.aio.AioRpcError):
            return "rpc error: code = Canceled desc = grpc: the client connection is closing"
        code = "".join(word.capitalize() for word in error.code().name.split("_")).replace("Cancelled", "Canceled")
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return f"rpc error: code = {code} desc = {error.details()}"
        # gRPC's own words for a call that found no connection; any other was broken while it ran.
        if "failed to connect" in (error.details() or "") and not Path(self.socket_path).exists():
            cause = f"Error while dialing: dial unix {self.socket_path}: connect: no such file or directory"
            return f'rpc error: code = {code} desc = connection error: desc = "transport: {cause}"'
        return f"rpc error: code = {code} desc = error reading from server: EOF"


def response_of(encoded: bytes) -> ContainerResponse:
    """A plugin's answer as it was kept in the checkpoint; raises ValueError when it is not one."""
    message = api.ContainerAllocateResponse()
    try:
        message.ParseFromString(encoded)
    except Exception as error:
        raise ValueError(f"not a ContainerAllocateResponse: {error}") from error
    return ContainerResponse(tuple(device.host_path for device in message.devices), encoded)


class RegistrationService:
    """The service that plugins call on kubelet.sock."""

    def __init__(self, clients: PluginClients, directory: Path) -> None:
        self._clients = clients
        self._directory = directory

    async def Register(self, request: Any, context: Any) -> Any:  # noqa: N802 the gRPC method's name
        """Connect to the plugin before answering it, as the kubelet does."""
        if request.version != API_VERSION:
            await context.abort(
                grpc.StatusCode.UNKNOWN,
                f'requested API version "{request.version}" is not supported by kubelet. '
                f'Supported version is ["{API_VERSION}"]',
            )
        if not _EXTENDED_RESOURCE.match(request.resource_name) or "/" in request.endpoint:
            await context.abort(grpc.StatusCode.UNKNOWN, f'the ResourceName "{request.resource_name}" is invalid')
        try:
            await self._clients.register(request.resource_name, str(self._directory / request.endpoint))
        except EndpointFailed as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return api.Empty()


def _device(message: Any) -> Device:
    return Device(message.ID, message.health, tuple(node.ID for node in message.topology.nodes))
