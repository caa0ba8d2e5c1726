"""What the model knows of the world: a few small values, one group for each place where the truth is kept.

Two slices of one profile, on two GPUs; a slice that is destroyed and cut again is the same device to the kubelet, as
with the real driver, which gives the same MIG UUID to the same ids. Pods that have not been bound, that have ended
and that were never made are the same pod: it waits, and may come (again) at any time. So three pods stand for any
number of pods of which three are alive at once.

Sets of slices are bit masks (1, 2, 3). Pods are small integers in order, for pods are alike; so are API servers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

SLICES: Final = (0, 1)
NONE: Final = 0

# --- a pod ------------------------------------------------------------------------------------------------------

WAITING: Final = 0  # not bound; or not there at all
NOMINATED: Final = 1  # the scheduler decided and told (status.nominatedNodeName): its bind is still to be sent
IN_FLIGHT: Final = 2  # a bind, or a pod that names its node, admitted by an API server and not yet in the store
BOUND: Final = 3  # in the store; the kubelet has not admitted it
AWAITED: Final = 4  # bound, and in the list of pods that the agent is judging by
GHOST: Final = 5  # deleted by force while bound: gone from the store, and the kubelet may still admit it
HOLDS: Final = 6  # + slice: admitted; the kubelet shows the device, processes run on it
STARTING: Final = 8  # + slice: admitted; the kubelet shows the device, no process yet
HIDDEN: Final = 10  # + slice: its init containers had the device and are done; it holds it, and is shown nowhere
LINGERS: Final = 12  # + slice: force-deleted: no pod, not in the kubelet, but its processes still run on the slice

Pods = tuple[int, ...]


def _table(*kinds: int) -> tuple[int, ...]:
    """For each code of a pod the mask of the slice it has as one of these kinds."""
    return tuple(sum(1 << each for each in SLICES if code - each in kinds) for code in range(16))


HELD: Final = _table(HOLDS, STARTING, HIDDEN)  # devices that the kubelet has given away
SHOWN: Final = _table(HOLDS, STARTING)  # devices that PodResources names
RUNS: Final = _table(HOLDS, LINGERS)  # slices with processes on them
BUSY: Final = _table(HOLDS, STARTING, HIDDEN, LINGERS)
ON_NODE: Final = tuple(code not in (WAITING, GHOST) and code < LINGERS for code in range(16))  # as counted
IS_HIDDEN: Final = tuple(HIDDEN <= code < HIDDEN + 2 for code in range(16))


def masks(pods: Pods, table: tuple[int, ...]) -> int:
    """The slices that these pods have, by one of the tables above."""
    mask = 0
    for each in pods:
        mask |= table[each]
    return mask


def counted(pods: Pods) -> int:
    """Pods that the scheduler subtracts from what the node offers."""
    return sum(ON_NODE[each] for each in pods)


# --- the node ---------------------------------------------------------------------------------------------------


class Link:
    """How the device plugin and the kubelet stand to each other. Plain numbers: states are compared by millions."""

    SERVING: Final = 0
    SIGNALLED: Final = 1  # SIGHUP was sent; the plugin serves under its old sockets until it takes it up
    CLOSED: Final = 2  # the old sockets are gone; the kubelet has not noticed and still lists the devices
    GONE: Final = 3  # the kubelet lists nothing
    BROKEN: Final = 4  # the plugin registered before the kubelet noticed: it lists old devices, without sockets
    DEAD: Final = 5  # no plugin, or none that has registered: by its own fault, or the kubelet's


class Node(NamedTuple):
    """The driver, the device plugin and the kubelet."""

    slices: int  # that exist in the driver
    listed: int  # that the kubelet lists as healthy
    link: int
    forgot: bool  # the kubelet was restarted: PodResources shows no pod until it has heard of them again
    unseen: int  # slices made beside CDMO that no spec is based on
    offered: int  # allocatable in the Node's status
    report: int  # a count that the kubelet is about to write there, one more than it; 0: none


# --- the API ----------------------------------------------------------------------------------------------------

KNOWS: Final = 3  # the scheduler's view of the Node is not behind in anything that matters


class Api(NamedTuple):
    """The store, what the API servers have heard of it, and what the scheduler has."""

    label: bool  # the fence
    changing: bool  # its value says that only the agent may lift it
    tainted: bool
    servers: tuple[int, ...]  # for each: how many changes of the label it is behind, times 2, + 1 when proved
    scheduler: int  # KNOWS, or the count it goes by: it has heard neither of the taint nor of a smaller count
    lifting: bool = False  # the controller took the label away and is about to take the taint


def fenced_at(server: int, label: bool) -> bool:
    """Whether this API server refuses binds: the label alternates, so being one change behind is the opposite."""
    return label ^ bool(server >> 1 & 1)


# --- the agent --------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What a change does to each slice: one of ACTIONS."""

    first: str = "-"
    second: str = "-"
    undoing: bool = False

    def of(self, index: int) -> str:
        """What is done to this slice."""
        return self.first if index == 0 else self.second


ACTIONS: Final = "-dcDC"  # nothing, destroy, create; and the same when done


class Memory(NamedTuple):
    """What the agent remembers within one change; a crash wipes it."""

    demand: int = 0  # pods in the list that count against what must stay
    blocked: int = 0  # slices that may not go
    hidden: bool = False  # a running pod has a device that it does not show
    waiting: bool = False  # a bound pod shows no device yet
    plan: Plan = Plan()
    expected: int = 0  # slices that the driver had when the plugin was asked to look again; 0 without a plugin
    failed: bool = False  # the fence did not come down everywhere


BLANK: Final = Memory()


class Agent(NamedTuple):
    """The agent and its disk."""

    step: str  # the next one; "idle": between two changes, or dead
    journal: bool = False
    memory: Memory = BLANK


class State(NamedTuple):
    """The whole world."""

    pods: Pods
    node: Node
    api: Api
    agent: Agent


class Harm(StrEnum):
    """What must never be."""

    BUSY_DESTROYED = "a busy slice is destroyed"
    FAILED = "a pod that was bound fails admission"
    DEAD_DEVICE = "a pod runs on a dead device"
    STUCK = "the node never gets back to work"
    UNSEEN_DESTROYED = "a slice that the controller has not seen is destroyed"
    UNREPORTED = "the fence lapsed and nobody is told"
    REFUSED = "a bind is refused that the scheduler could have spared"


class Move(NamedTuple):
    """Something that may happen next. `surely`: it happens some time if nothing else does, once faults stop."""

    text: str
    surely: bool
    state: State
    harm: Harm | None = None


def at_rest(state: State) -> bool:
    """Unfenced, nothing under way, and every slice is offered: where every path must be able to end."""
    node, api, agent = state.node, state.api, state.agent
    return (
        agent == Agent("idle")
        and not (api.label or api.tainted or api.lifting or any(api.servers))
        and node.link == Link.SERVING
        and node.listed == node.slices
        and node.offered == node.slices.bit_count()
        and IN_FLIGHT not in state.pods
        and BOUND not in state.pods
    )


def start(pods: int, servers: int, slices: int) -> State:
    """A node at rest with these slices; nobody is on it."""
    node = Node(slices, slices, Link.SERVING, False, NONE, slices.bit_count(), 0)
    return State((WAITING,) * pods, node, Api(False, False, False, (0,) * servers, KNOWS), Agent("idle"))
