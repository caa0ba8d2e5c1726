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
    SCHEDULER_NOT_ASKED = "SchedulerNotAsked"  # on a Node: nobody can tell whether it knows of a change
    GPU_UNHEALTHY = "GpuUnhealthy"  # on a Node, and on each Pod that uses what went wrong
    GPU_RECOVERED = "GpuRecovered"  # on a Node
    FENCE_STANDS = "FenceStands"  # on a Node: its agent is silent in the middle of a change
    PLUGIN_STUCK = "DevicePluginStuck"  # on a Node
    CHANGE_STUCK = "ChangeStuck"  # on a Node: a phase of a change takes longer than it ever should
    DRIVER_HUNG = "DriverHung"  # on a Node: a call into the driver does not return


class ConditionType(StrEnum):
    """Condition types of a MigNode."""

    READY = "Ready"  # False: something keeps CDMO from working on the node, the message says what
    REPARTITIONING = "Repartitioning"  # True: a change is under way
    GPUS_HEALTHY = "GpusHealthy"  # False: some GPU or slice is not to be used, the message says which
    MODE_SETTLED = "MigModeSettled"  # False: a GPU is not in the MIG mode that is wanted of it


class ModeReason(StrEnum):
    """Reasons of a MigNode's MigModeSettled condition."""

    AS_WANTED = "AsWanted"  # every GPU is in the mode that is wanted of it
    REBOOT_NEEDED = "RebootNeeded"  # the driver has noted the mode; a reset or a reboot brings it about
    RESET_NEEDED = "ResetNeeded"  # nobody allowed the reset that the mode would need
    WAITING = "Waiting"  # for whoever uses the GPU


class ReadyReason(StrEnum):
    """Reasons of a MigNode's Ready condition."""

    READY = "Ready"  # the node can be worked with
    DRIVER_UNAVAILABLE = "DriverUnavailable"  # no driver answers yet
    DRIVER_HUNG = "DriverHung"  # a driver call does not return
    KUBELET_UNAVAILABLE = "KubeletUnavailable"  # its sockets do not answer, or too slowly
    BAD_SPEC = "BadSpec"  # the MigNode contradicts itself or its GPUs
    PLUGIN_STUCK = "DevicePluginStuck"  # it did not come back as the driver says; the fence stays
    NO_MIG_GPU = "NoMigGpu"  # no GPU of the node can be cut
    GPU_SILENT = "GpuDoesNotAnswer"  # nothing is changed on the node until it does
    CHANGE_FAILED = "ChangeFailed"  # the last change; it is tried again
    DISABLED = "Disabled"  # `cdmo disable`: the GPUs are given back whole
    CHANGE_STUCK = "ChangeStuck"  # a phase of a change took longer than it ever should
