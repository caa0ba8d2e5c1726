"""Registering with a node's kubelet in the plugin's place."""

from __future__ import annotations

import grpc.aio
from cdmo_harness._pb import deviceplugin_pb2, deviceplugin_pb2_grpc
from cdmo_harness.gpu_node import PLUGIN_FOLDER, GpuNode

from cdmo.kubelet.sockets import socket_of


async def register_again(node: GpuNode, resource: str) -> None:
    """Register the plugin's socket of a resource a second time, its first connection standing: what a plugin does
    that comes back too early. Raises AioRpcError where the kubelet minds, as 1.37 does: then it is broken."""
    address = f"unix:{node.root / PLUGIN_FOLDER / 'kubelet.sock'}"
    async with grpc.aio.insecure_channel(address, options=[("grpc.default_authority", "localhost")]) as channel:
        options = deviceplugin_pb2.DevicePluginOptions(get_preferred_allocation_available=True)
        request = deviceplugin_pb2.RegisterRequest(
            version="v1beta1", endpoint=socket_of(resource), resource_name=resource, options=options
        )
        await deviceplugin_pb2_grpc.RegistrationStub(channel).Register(request)
