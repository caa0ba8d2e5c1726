"""Watching for XID errors: the plugin's health check.

One thread holds an NVML session with an event set on every GPU for as long as one generation of servers lives, and
up to five seconds longer, as the real plugin's does. A device that once failed stays unhealthy until the next look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import pynvml
import structlog

from .inventory import PluginDevice

_log = structlog.get_logger(__name__)

# XIDs that tell of a fault in the application, not in the device (internal/rm/health.go).
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
_WAIT_MILLISECONDS = 5000
_WHOLE_GPU = 0xFFFFFFFF
_EVENTS = (
    pynvml.nvmlEventTypeXidCriticalError
    | pynvml.nvmlEventTypeDoubleBitEccError
    | pynvml.nvmlEventTypeSingleBitEccError
)


class HealthWatch:
    """Calls `report` from its own thread with the ids of devices that failed."""

    def __init__(self, devices: Sequence[PluginDevice], report: Callable[[Sequence[str]], None]) -> None:
        self._by_gpu: dict[str, list[PluginDevice]] = {}
        for device in devices:
            self._by_gpu.setdefault(device.gpu_uuid, []).append(device)
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        """Begin to watch, if there is anything to watch."""
        if self._by_gpu:
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does so within five seconds and nobody waits for it."""
        self._stop.set()

    def _run(self) -> None:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            _log.warning("health check without NVML", error=str(error))
            return
        try:
            self._watch()
        except pynvml.NVMLError as error:
            _log.warning("health check ended", error=str(error))
        finally:
            pynvml.nvmlShutdown()

    def _watch(self) -> None:
        events = pynvml.nvmlEventSetCreate()
        try:
            for uuid, devices in self._by_gpu.items():
                self._register(uuid, devices, events)
            while not self._stop.is_set():
                try:
                    event = pynvml.nvmlEventSetWait_v2(events, _WAIT_MILLISECONDS)
                except pynvml.NVMLError_Timeout:
                    continue
                except pynvml.NVMLError as error:
                    _log.warning("error waiting for an event: all devices count as failed", error=str(error))
                    self._failed([device for devices in self._by_gpu.values() for device in devices])
                    self._stop.wait(_WAIT_MILLISECONDS / 1000)
                    continue
                if not self._stop.is_set():
                    self._judge(event)
        finally:
            pynvml.nvmlEventSetFree(events)

    def _register(self, uuid: str, devices: Sequence[PluginDevice], events: object) -> None:
        try:
            gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            supported = pynvml.nvmlDeviceGetSupportedEventTypes(gpu)
            pynvml.nvmlDeviceRegisterEvents(gpu, _EVENTS & supported, events)
        except pynvml.NVMLError_NotSupported:
            _log.warning("GPU too old for health checks", gpu=uuid)
        except pynvml.NVMLError as error:
            _log.warning("GPU counts as failed: no events from it", gpu=uuid, error=str(error))
            self._failed(devices)

    def _judge(self, event: object) -> None:
        kind, xid = getattr(event, "eventType", 0), int(getattr(event, "eventData", 0))
        if kind != pynvml.nvmlEventTypeXidCriticalError or xid in APPLICATION_XIDS:
            return
        try:
            uuid = pynvml.nvmlDeviceGetUUID(getattr(event, "device", None))
        except pynvml.NVMLError:
            self._failed([device for devices in self._by_gpu.values() for device in devices])
            return
        instance = int(getattr(event, "gpuInstanceId", _WHOLE_GPU))
        compute = int(getattr(event, "computeInstanceId", _WHOLE_GPU))
        self._failed(affected(self._by_gpu, uuid, instance, compute))

    def _failed(self, devices: Sequence[PluginDevice]) -> None:
        if devices:
            _log.warning("devices failed", devices=[device.id for device in devices])
            self._report([device.id for device in devices])


def affected(
    by_gpu: Mapping[str, Sequence[PluginDevice]], gpu_uuid: str, gpu_instance: int, compute_instance: int
) -> list[PluginDevice]:
    """The devices an event is about; 0xFFFFFFFF instead of an instance means the whole GPU."""
    return [
        device
        for device in by_gpu.get(gpu_uuid, ())
        if device.gpu_instance is None
        or gpu_instance == _WHOLE_GPU
        or compute_instance == _WHOLE_GPU
        or (device.gpu_instance, device.compute_instance) == (gpu_instance, compute_instance)
    ]
