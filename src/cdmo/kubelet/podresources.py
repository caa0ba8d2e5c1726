"""PodResources on the kubelet's gRPC socket.

The kubelet allows 100 calls a second with bursts of 10, all its clients together, and refuses the rest with
RESOURCE_EXHAUSTED (pkg/kubelet/apis/grpc/ratelimit.go): refused calls are made again after a short pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from cdmo.errors import KubeletUnavailable
from cdmo.kubelet._pb import podresources_pb2 as api
from cdmo.kubelet._pb import podresources_pb2_grpc as services
from cdmo.kubelet.port import PodDevices
from cdmo.model.names import RESOURCE_PREFIX
from cdmo.runtime.clock import Clock

MAX_MESSAGE_BYTES = 16 << 20  # the kubelet's own clients allow as much
MAX_SOCKET_PATH = 107  # bytes; sun_path of unix(7)
PAUSES = (0.01, 0.02, 0.04, 0.08)  # seconds after a refusal by the rate limit; the last one is repeated
_RATE_LIMIT = "rate limit"
_OPTIONS = (
    ("grpc.default_authority", "localhost"),  # else the socket's path is sent, which Go servers refuse
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    # The kubelet makes its socket anew when it restarts; gRPC's own back-off would grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
)


class KubeletPodResources:
    """A client for as long as the `async with` lasts. `deadline` in seconds is for a whole call, pauses included."""

    def __init__(self, socket: Path, *, clock: Clock, deadline: float = 2.0) -> None:
        self._socket = socket
        self._clock = clock
        self._deadline = deadline
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    async def __aenter__(self) -> Self:
        if len(str(self._socket).encode()) > MAX_SOCKET_PATH:
            raise KubeletUnavailable(
                f"the path of the kubelet's socket is longer than {MAX_SOCKET_PATH} bytes: {self._socket}",
                hint="mount the host's root at a shorter path",
            )
        self._channel = grpc.aio.insecure_channel(f"unix:{self._socket}", options=_OPTIONS)
        self._stub = services.PodResourcesListerStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def allocatable(self) -> Mapping[str, frozenset[str]]:
        """Healthy `nvidia.com/*` devices the kubelet knows, by resource."""
        answer = await self._call("GetAllocatableResources", api.AllocatableResourcesRequest())
        return {resource: frozenset(ids) for resource, ids in _by_resource(answer.devices).items()}

    async def get(self, namespace: str, name: str) -> PodDevices | None:
        """One pod's devices; None while the kubelet does not know the pod."""
        request = api.GetPodResourcesRequest(pod_namespace=namespace, pod_name=name)
        try:
            answer = await self._call("Get", request)
        except KubeletUnavailable as error:
            if _says_not_found(error.__cause__, name):
                return None
            raise
        return _pod(answer.pod_resources)

    async def list(self) -> tuple[PodDevices, ...]:
        """Every pod that holds `nvidia.com/*` devices."""
        answer = await self._call("List", api.ListPodResourcesRequest())
        pods = (_pod(each) for each in answer.pod_resources)
        return tuple(each for each in pods if each.devices)

    async def _call(self, method: str, request: object) -> Any:
        if self._stub is None:
            raise KubeletUnavailable("the PodResources client is not open", hint="use it inside `async with`")
        call: Callable[..., Awaitable[Any]] = getattr(self._stub, method)
        refusals = 0
        try:
            async with asyncio.timeout(self._deadline):
                while True:
                    try:
                        answer = await call(request, timeout=self._deadline)
                        if answer is None:  # what gRPC makes of bytes that are no such message
                            raise KubeletUnavailable(
                                f"the kubelet at {self._socket} answered {method} with what cannot be read"
                            )
                        return answer
                    except grpc.aio.AioRpcError as error:
                        if not _is_rate_limit(error):
                            raise
                        await self._clock.sleep(PAUSES[min(refusals, len(PAUSES) - 1)])
                        refusals += 1
        except TimeoutError as error:
            text = f"did not answer {method} within {self._deadline:g} s, {refusals} calls refused by its rate limit"
            raise KubeletUnavailable(f"the kubelet at {self._socket} {text}") from error
        except grpc.aio.AioRpcError as error:
            raise self._failure(method, error) from error

    def _failure(self, method: str, error: grpc.aio.AioRpcError) -> KubeletUnavailable:
        details = (error.details() or "no details")[:300]
        hint = ""
        if not self._socket.exists():
            details = "the socket is not there"
            hint = "the kubelet is down or has another root directory: check the mount and the kubelet root setting"
        elif error.code() is grpc.StatusCode.UNIMPLEMENTED or "disabled" in details:
            hint = "CDMO needs a kubelet of version 1.34 or later"
        return KubeletUnavailable(
            f"the kubelet at {self._socket} did not answer {method}: {error.code().name}: {details}", hint=hint
        )


def _is_rate_limit(error: grpc.aio.AioRpcError) -> bool:
    """A message that is too long has the same status code, and would never go through."""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and _RATE_LIMIT in (error.details() or "")


def _says_not_found(error: BaseException | None, name: str) -> bool:
    """The kubelet gives a bare error, thus UNKNOWN: "pod NAME in namespace NAMESPACE not found"."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    details = error.details() or ""
    unknown = error.code() is grpc.StatusCode.UNKNOWN and details.startswith(f"pod {name} in namespace ")
    return error.code() is grpc.StatusCode.NOT_FOUND or (unknown and details.endswith("not found"))


def _pod(answer: Any) -> PodDevices:
    entries = (entry for container in answer.containers for entry in container.devices)
    devices = {resource: tuple(ids) for resource, ids in _by_resource(entries).items()}
    return PodDevices(answer.namespace, answer.name, devices)


def _by_resource(entries: Iterable[Any]) -> dict[str, list[str]]:
    """Device ids by resource, `nvidia.com/*` only; an id is repeated for each NUMA node, and kept once."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        if entry.resource_name.startswith(RESOURCE_PREFIX):
            found.setdefault(entry.resource_name, {}).update(dict.fromkeys(entry.device_ids))
    return {resource: list(ids) for resource, ids in found.items() if ids}
