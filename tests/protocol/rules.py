"""The guards of the protocol, and what may go wrong in the world that a model is of.

A guard is one precaution in the code; a model without it shows what it is for. A world says how much of what can
happen does happen: big worlds for the proof, the smallest that shows the harm for each counter-example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Guard(StrEnum):
    """The precautions, in the order of the protocol."""

    TAINT = "taint the node"
    LABEL = "label the node for the policy"
    POLICY_PODS = "the policy covers pods that name their node"
    PROBE_ALL = "prove the fence at every API server"
    NUMBERED_PROOF = "count only a refusal that knows of this raising of the fence"
    HEARD = "wait until the scheduler has shown that it knows of the fence"
    SETTLE = "settle before the list of pods"
    QUORUM_LIST = "list the pods from the store, not from a cache"
    QUIET = "wait until bound pods show their devices"
    HOLDERS = "ask the kubelet who holds what"
    STATUS_IDS = "believe the device ids in the pods' status"
    HIDDEN = "count on running pods that show no device"
    PROCESSES = "ask the driver for processes"
    KUBELET_FIRST = "ask the kubelet before the driver"
    COVERAGE = "keep enough for bound and nominated pods"
    REVISION = "destroy only what the controller has seen"
    MARK = "mark the fence as the agent's own"
    ATOMIC_LIFT = "lift label and taint at once, mark only where both are"
    JOURNAL = "journal before the first step"
    RECOVER = "end an interrupted change before lowering its fence"
    RELOAD = "reload the plugin after the steps"
    HOLD = "hold the plugin over the gap"
    OLD_SOCKETS = "wait until the old sockets are gone"
    LISTED = "wait until the kubelet lists what the driver has"
    SOCKETS = "wait for every expected socket"
    KEEP_FENCE = "keep the fence while the plugin is stuck"
    PUBLISH = "publish the counts before unfencing"
    RELOAD_FIRST = "reload before publishing"
    VERIFY = "verify the fence before lowering it"
    COMPARE = "look at the counts once more before unfencing"
    LABEL_FIRST = "remove the label before the taint"
    PROBE_GONE = "prove that the fence is gone before the taint is"
    BEHIND_KUBELET = "never publish ahead of the kubelet"


# Where each is in the code: a file, and a word to look for in it.
WHERE: Mapping[Guard, str] = MappingProxyType(
    {
        Guard.TAINT: "src/cdmo/agent/fence.py: set_taint",
        Guard.LABEL: "src/cdmo/agent/fence.py: FENCE_VALUE, CHANGE_LABEL: change",
        Guard.POLICY_PODS: "deploy/policy/fence.yaml: binds-or-comes-bound",
        Guard.PROBE_ALL: "src/cdmo/agent/fence.py: _await_all",
        Guard.NUMBERED_PROOF: "src/cdmo/agent/fence.py: _refuses",
        Guard.HEARD: "src/cdmo/agent/fence.py: self._witness.heard",
        Guard.SETTLE: "src/cdmo/agent/fence.py: settle",
        Guard.QUORUM_LIST: "src/cdmo/kube/fence_api.py: pods_on",
        Guard.QUIET: "src/cdmo/agent/change.py: _await_quiet",
        Guard.HOLDERS: "src/cdmo/agent/guard.py: is held by pod",
        Guard.STATUS_IDS: "src/cdmo/agent/observe.py: pod.devices",
        Guard.HIDDEN: "src/cdmo/agent/guard.py: hidden_resources",
        Guard.PROCESSES: "src/cdmo/agent/guard.py: witness.processes",
        Guard.KUBELET_FIRST: "src/cdmo/agent/observe.py: look_fenced",
        Guard.COVERAGE: "src/cdmo/agent/guard.py: _uncovered",
        Guard.REVISION: "src/cdmo/agent/steps.py: adopted",
        Guard.MARK: "src/cdmo/agent/fence.py: _mark",
        Guard.ATOMIC_LIFT: "src/cdmo/controller/fences.py: take_off",
        Guard.JOURNAL: "src/cdmo/agent/change.py: self._journal.write",
        Guard.RECOVER: "src/cdmo/agent/change.py: _give_up",
        Guard.RELOAD: "src/cdmo/agent/change.py: self._plugin.reload",
        Guard.HOLD: "src/cdmo/kubelet/deviceplugin.py: _hold_over_gaps",
        Guard.OLD_SOCKETS: "src/cdmo/kubelet/deviceplugin.py: the old socket",
        Guard.LISTED: "src/cdmo/kubelet/deviceplugin.py: the kubelet lists",
        Guard.SOCKETS: "src/cdmo/kubelet/deviceplugin.py: no socket",
        Guard.KEEP_FENCE: "src/cdmo/agent/change.py: still_fenced=True",
        Guard.PUBLISH: "src/cdmo/agent/change.py: self.publish(offer)",
        Guard.RELOAD_FIRST: "src/cdmo/agent/change.py: Phase.PUBLISH",
        Guard.VERIFY: "src/cdmo/agent/fence.py: verify",
        Guard.COMPARE: "src/cdmo/agent/change.py: shown_by",
        Guard.LABEL_FIRST: "src/cdmo/agent/fence.py: lower",
        Guard.PROBE_GONE: "src/cdmo/agent/fence.py: _allows",
        Guard.BEHIND_KUBELET: "src/cdmo/agent/capacity.py: disagreement",
    }
)

ALL_GUARDS = frozenset(Guard)


@dataclass(frozen=True, slots=True)
class World:
    """What there is and what can happen. Everything said here can happen at any moment, any number of times."""

    pods: int = 3
    servers: int = 2
    slices: int = 1  # mask of those that exist at the start
    alike: bool = True  # whether states that differ by names alone are taken as one
    crashes: bool = True  # the agent dies at any step and is started again
    calls_fail: bool = True  # any call of the agent fails or takes too long; no proof of the fence in time
    plugin_dies: bool = True
    kubelet_restarts: bool = True
    late_hold: bool = True  # the plugin may register too early although it is held
    force_deletes: bool = True
    direct_pods: bool = True  # pods that are created with spec.nodeName
    nominates: bool = True  # binds that are decided long before they are sent
    lifts: bool = False  # the controller lifts fences of silent agents
    administrator: bool = True  # restarts a kubelet that only a restart heals, because the agent says so
    # Rarer things, each of which multiplies the world and is looked at in a smaller one.
    behind: int = 1  # changes of the label that an API server may not have heard of
    forgetful: bool = False  # a kubelet that was restarted shows no pod for a while
    slow_status: bool = False  # the kubelet writes a count long after it was taken
    reports_outlast: bool = False  # and so long after that the fence is down again
    slow_start: bool = False  # a pod holds its device for a while before it has a process
    init_only: bool = False  # pods whose init containers alone ask for a slice
    made_by_hand: bool = False  # somebody makes slices beside CDMO
    ghosts: bool = False  # a pod that is bound and not yet admitted is deleted by force
    unasked: bool = False  # the scheduler cannot be asked what it knows
    meddler: bool = False  # somebody removes the fence's label
    pauses: bool = False  # the agent stands still at any step for so long that it is taken for dead
    driver_refuses: bool = False  # the driver itself does not destroy a slice with processes on it


@dataclass(frozen=True, slots=True, eq=False)  # one is itself: the components remember what they did by it
class Rules:
    """A model: a world, and the guards that the agent goes by in it."""

    world: World
    guards: frozenset[Guard] = ALL_GUARDS

    def without(self, *guards: Guard) -> Rules:
        """The same world, fewer guards."""
        return Rules(self.world, self.guards - {*guards})
