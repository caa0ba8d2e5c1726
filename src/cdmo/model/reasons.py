"""Every reason CDMO gives: of Events, of conditions, of pods that wait. All in one file, none elsewhere."""

from __future__ import annotations

from enum import StrEnum


class WaitingCode(StrEnum):
    """Why a pod waits. Stable for machines; a sentence for people goes with each."""

    NO_SUCH_PROFILE = "NoSuchProfile"  # no managed card can ever be cut into it
    NEVER_FITS = "NeverFits"  # the profiles exist, but no one node can hold them together
    ABSURD_COUNT = "AbsurdCount"  # asks for more slices than any node could have
    NO_ELIGIBLE_NODE = "NoEligibleNode"  # cards could serve it, but not on nodes where the pod may run
    NO_ROOM = "NoRoom"  # it would fit if something that runs ended
    NODE_NOT_READY = "NodeNotReady"  # the only fitting nodes are being repaired, or their agent is silent
    TRIED_IN_VAIN = "TriedInVain"  # its slice existed, the scheduler still refused: left alone for a while


class EventReason(StrEnum):
    """Reasons of the Events CDMO writes."""

    WAITING = "MigSliceWaiting"  # on a Pod, with the sentence of its WaitingCode
    PLANNED = "MigSlicePlanned"  # on a Pod: where its slices are being cut
    REPARTITIONED = "Repartitioned"  # on a Node
    REPARTITION_FAILED = "RepartitionFailed"  # on a Node
    BAD_SPEC = "BadMigNodeSpec"  # on a MigNode
    FENCE_LAPSED = "FenceLapsed"  # on a Node
    GPU_UNHEALTHY = "GpuUnhealthy"  # on a Node, and on each Pod that uses what went wrong
    GPU_RECOVERED = "GpuRecovered"  # on a Node
    FENCE_STANDS = "FenceStands"  # on a Node: its agent is silent in the middle of a change
    PLUGIN_STUCK = "DevicePluginStuck"  # on a Node
    CHANGE_STUCK = "ChangeStuck"  # on a Node: a phase of a change takes longer than it ever should
    DRIVER_HUNG = "DriverHung"  # on a Node: a call into the driver does not return


class ConditionType(StrEnum):
    """Condition types of a MigNode."""

    READY = "Ready"
    REPARTITIONING = "Repartitioning"
    GPUS_HEALTHY = "GpusHealthy"  # False: some GPU or slice is not to be used, the message says which


class ReadyReason(StrEnum):
    """Reasons of a MigNode's Ready condition."""

    READY = "Ready"
    DRIVER_UNAVAILABLE = "DriverUnavailable"
    DRIVER_HUNG = "DriverHung"
    KUBELET_UNAVAILABLE = "KubeletUnavailable"
    BAD_SPEC = "BadSpec"
    PLUGIN_STUCK = "DevicePluginStuck"
    NO_MIG_GPU = "NoMigGpu"
    GPU_SILENT = "GpuDoesNotAnswer"
    NOT_LABELLED = "NotLabelled"
    CHANGE_FAILED = "ChangeFailed"
    CHANGE_STUCK = "ChangeStuck"
