"""Every failure CDMO can name, in one tree.

    CdmoError
    ├── BadInput                 what a person or another program gave us is wrong
    │   ├── BadSpec              a MigNode that contradicts itself or the GPU it is for
    │   └── BadSettings          a flag, variable or file of this process
    ├── ClusterError             the Kubernetes API
    │   ├── ClusterUnavailable   no answer, or 429/5xx: the same call may succeed later   (retryable)
    │   ├── Conflict             somebody wrote first: read again, then write             (retryable)
    │   ├── NotFound             the object is not there
    │   ├── AlreadyExists        the object is there
    │   ├── Denied               authentication, RBAC or an admission policy said no
    │   ├── Invalid              the API server refused the object's content
    │   └── Expired              the resource version is too old: list again              (retryable)
    ├── HardwareError            NVML, in MIG's words (hardware/port.py explains each)
    │   ├── DriverUnavailable    library missing, unreadable or driver not loaded         (retryable)
    │   ├── DriverHung           a call did not return: no other is made until it does     (retryable)
    │   ├── LibraryMismatch      the driver was replaced under us: this process must restart
    │   ├── InUse                something holds the instance or the GPU                  (retryable)
    │   ├── NoRoom               the placement, profile or engine is taken
    │   ├── NotThere             no such GPU, instance or profile
    │   ├── NotSupported         MIG is off, or the card has none
    │   ├── NotAllowed           this process may not configure MIG
    │   ├── ResetNeeded          the mode change is pending until the GPU is reset
    │   ├── GpuLost              the GPU fell off the bus
    │   └── DriverFault          anything else the driver said                            (retryable)
    ├── KubeletError             the kubelet's sockets
    │   ├── KubeletUnavailable   socket missing or not answering                          (retryable)
    │   ├── PluginAbsent         no device plugin runs here: it will enumerate when it starts
    │   └── PluginStuck          the device plugin did not come back as NVML says
    └── ChangeStopped            a change to a node was stopped before it could do harm
        ├── GuardRefused         what would be destroyed is, or may be, in use
        ├── FenceLapsed          binds were possible while they must not be
        ├── SchedulerSilent      the scheduler has not shown that it knows of the fence    (retryable)
        ├── ChangeStuck          a phase of a change took longer than it ever should       (retryable)
        └── JournalUnwritable    without a journal nothing is changed

Library errors are chained (`raise … from error`) and never leave the port that met them.
"""

from __future__ import annotations

from typing import ClassVar

from cdmo.text import sentence


class CdmoError(Exception):
    """The root. `str(error)` is one sentence for people; `hint` says what to do, or is empty. Both are one printable
    line, whatever others said in them."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(sentence(message))
        self.hint = sentence(hint)


class BadInput(CdmoError):
    """What a person or another program gave us is wrong."""


class BadSpec(BadInput):
    """A MigNode spec that contradicts itself or the GPU it is for."""


class BadSettings(BadInput):
    """A flag, an environment variable or a file of this process."""


class ClusterError(CdmoError):
    """The Kubernetes API answered with a failure, or not at all."""


class ClusterUnavailable(ClusterError):
    """No answer, or 429 or 5xx: the same call may succeed later."""

    retryable = True


class Conflict(ClusterError):
    """Somebody wrote the object first: read it again, then write."""

    retryable = True


class NotFound(ClusterError):
    """The object is not there."""


class AlreadyExists(ClusterError):
    """The object is there already."""


class Denied(ClusterError):
    """Authentication, RBAC or an admission policy said no."""


class Invalid(ClusterError):
    """The API server refused the object's content."""


class Expired(ClusterError):
    """The resource version is too old: list again."""

    retryable = True


class HardwareError(CdmoError):
    """NVML said no. `code` is NVML's return code, or -1 where there was none."""

    def __init__(self, message: str, *, hint: str = "", code: int = -1) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class DriverUnavailable(HardwareError):
    """The library is missing or unreadable, or the driver is not loaded (yet)."""

    retryable = True


class DriverHung(HardwareError):
    """A call into the driver did not return in time. Nobody knows what it did or will still do."""

    retryable = True


class LibraryMismatch(HardwareError):
    """The driver was replaced under this process, which must restart: a mapped library cannot be swapped."""


class InUse(HardwareError):
    """Something holds the instance or the GPU."""

    retryable = True


class NoRoom(HardwareError):
    """The placement, the profile's last instance or a media engine is taken."""


class NotThere(HardwareError):
    """No such GPU, GPU instance, compute instance or profile."""


class NotSupported(HardwareError):
    """MIG is off on the GPU, or the card has none."""


class NotAllowed(HardwareError):
    """This process may not configure MIG."""


class ResetNeeded(HardwareError):
    """The mode change is pending until the GPU is reset."""


class GpuLost(HardwareError):
    """The GPU fell off the bus."""


class DriverFault(HardwareError):
    """Anything else the driver said."""

    retryable = True


class KubeletError(CdmoError):
    """The kubelet's sockets, or the device plugin behind them."""


class KubeletUnavailable(KubeletError):
    """The socket is missing or does not answer."""

    retryable = True


class PluginAbsent(KubeletError):
    """No device plugin runs on this node. It will enumerate when it starts."""


class PluginStuck(KubeletError):
    """The device plugin did not come back with what NVML has."""


class ChangeStopped(CdmoError):
    """A change to a node was stopped before it could do harm."""


class GuardRefused(ChangeStopped):
    """What would be destroyed is in use, or a pod may be about to get it."""


class FenceLapsed(ChangeStopped):
    """Binds to the node were possible while they must not be."""


class SchedulerSilent(ChangeStopped):
    """The scheduler has not shown in time that it knows of the fence: it may go by what the node had before."""

    retryable = True


class ChangeStuck(ChangeStopped):
    """A phase of a change took longer than it ever should, and was given up."""

    retryable = True


class JournalUnwritable(ChangeStopped):
    """The journal cannot be written; without it nothing is changed."""
