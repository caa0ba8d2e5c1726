"""The cluster around the node: API servers, scheduler, people who make and delete pods, and the controller.

Each function gives what its component may do next, from the parts that it can see. The results are remembered: a part
is the same in thousands of states.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tests.protocol.rules import Guard, Rules
from tests.protocol.state import (
    BOUND,
    GHOST,
    HIDDEN,
    HOLDS,
    IN_FLIGHT,
    KNOWS,
    LINGERS,
    NOMINATED,
    SLICES,
    STARTING,
    WAITING,
    Api,
    Harm,
    Node,
    Pods,
    counted,
    fenced_at,
)


class PodMove(NamedTuple):
    """A move of pods, told by the API."""

    text: str
    surely: bool
    pods: Pods
    api: Api
    harm: Harm | None = None


class ApiMove(NamedTuple):
    """A move that changes nothing but the API's part."""

    text: str
    surely: bool
    api: Api


def become(rules: Rules, pods: Pods, index: int, code: int) -> Pods:
    """The pods with one of them changed; in order, where they are alike."""
    changed = (*pods[:index], code, *pods[index + 1 :])
    return tuple(sorted(changed)) if rules.world.alike else changed


def in_order(rules: Rules, servers: tuple[int, ...]) -> tuple[int, ...]:
    """API servers in order, where they are alike."""
    return tuple(sorted(servers)) if rules.world.alike else servers


@cache
def scheduler(rules: Rules, pods: Pods, offered: int, api: Api) -> tuple[PodMove, ...]:
    """It decides by its view of the Node, nominates where a bind takes long, and sends binds to any API server."""
    moves = []
    if api.scheduler != KNOWS:
        moves.append(PodMove("scheduler: hears of the Node as it is", True, pods, api._replace(scheduler=KNOWS)))
    fenced = [fenced_at(each, api.label) for each in api.servers]
    seen = api.scheduler if api.scheduler != KNOWS else 0 if api.tainted else offered
    has_room = seen > counted(pods)
    for index, pod in enumerate(pods):
        if pod == NOMINATED:
            if not all(fenced):
                sent = become(rules, pods, index, IN_FLIGHT)
                moves.append(PodMove("scheduler: its bind of the nominated pod is admitted", True, sent, api))
            dropped = become(rules, pods, index, WAITING)
            moves.append(PodMove("scheduler: the nominated pod is refused, or given up", True, dropped, api))
        elif pod == WAITING and has_room:
            if not all(fenced):
                sent = become(rules, pods, index, IN_FLIGHT)
                moves.append(PodMove("scheduler: its bind of a pod is admitted", False, sent, api))
            if rules.world.nominates:
                told = become(rules, pods, index, NOMINATED)
                moves.append(PodMove("scheduler: decides for the node and nominates a pod", False, told, api))
            if any(fenced) and api.scheduler == KNOWS:
                refused = "scheduler: knows the Node as it is, and its bind is refused"
                moves.append(PodMove(refused, False, pods, api, Harm.REFUSED))
        elif pod == IN_FLIGHT:
            committed = become(rules, pods, index, BOUND)
            moves.append(PodMove("API server: commits what it had admitted", True, committed, api))
    return tuple(moves)


@cache
def people(rules: Rules, pods: Pods, offered: int, api: Api) -> tuple[PodMove, ...]:
    """Pods that name the node themselves, pods that end, pods that are deleted by force.

    Who binds pods past the scheduler looks for room as it does: a node overbooked by hand is not CDMO's doing.
    """
    moves = []
    open_somewhere = not all(fenced_at(each, api.label) for each in api.servers)
    admits = open_somewhere or Guard.POLICY_PODS not in rules.guards
    for index, pod in enumerate(pods):
        if pod == WAITING and rules.world.direct_pods and admits and offered > counted(pods):
            sent = become(rules, pods, index, IN_FLIGHT)
            moves.append(PodMove("user: a pod with spec.nodeName is admitted", False, sent, api))
        elif pod == IN_FLIGHT:
            lost = become(rules, pods, index, WAITING)
            moves.append(PodMove("API server: restarts and loses what it had admitted", False, lost, api))
        elif pod == BOUND and rules.world.ghosts:
            ghost = become(rules, pods, index, GHOST)
            moves.append(PodMove("user: deletes by force a pod that the kubelet has not admitted", False, ghost, api))
        elif pod >= HOLDS:
            ended = become(rules, pods, index, WAITING)
            moves.append(PodMove(_END[pod], False, ended, api))
            if rules.world.force_deletes and pod - pod % 2 == HOLDS:
                lingers = become(rules, pods, index, LINGERS + pod % 2)
                moves.append(PodMove(_FORCED[pod % 2], False, lingers, api))
    return tuple(moves)


_FORCED = tuple(f"user: deletes by force the pod on slice {each}; its process runs on" for each in SLICES)
_END = {
    kind + each: f"{who} slice {each} ends"
    for kind, who in (
        (HOLDS, "pod: the one on"),
        (STARTING, "pod: the one starting on"),
        (HIDDEN, "pod: the hidden one on"),
        (LINGERS, "process: the one left on"),
    )
    for each in SLICES
}


@cache
def api_servers(rules: Rules, api: Api) -> tuple[ApiMove, ...]:
    """Each hears of the fence's label at its own moment, the changes one after the other; or all of them at once,
    when it restarts. One that is away is one whose proof does not come in time."""
    moves = []
    for index, server in enumerate(api.servers):
        if server >> 1:
            heard = (*api.servers[:index], server - 2, *api.servers[index + 1 :])
            text = f"API server: hears that the fence is {'down' if fenced_at(server, api.label) else 'up'}"
            moves.append(ApiMove(text, True, api._replace(servers=in_order(rules, heard))))
        if server >> 1 > 1:
            fresh = (*api.servers[:index], server & 1, *api.servers[index + 1 :])
            restarted = api._replace(servers=in_order(rules, fresh))
            moves.append(ApiMove("API server: restarts and reads the Node afresh", False, restarted))
    return tuple(moves)


def may_change_label(rules: Rules, api: Api) -> bool:
    """Whether no API server would then be further behind than this world allows."""
    return all(server >> 1 < rules.world.behind for server in api.servers)


def with_label(api: Api, label: bool) -> Api:
    """The store's label changed; every API server is one change further behind."""
    if api.label is label:
        return api
    return api._replace(label=label, changing=False, servers=tuple(each + 2 for each in api.servers))


def with_taint(api: Api, offered: int) -> Api:
    """The store's taint set. The scheduler goes on by what the node offered until it hears of it; where that was
    nothing, it does not matter when it hears."""
    if api.tainted:
        return api
    goes_by = api.scheduler if api.scheduler != KNOWS else offered or KNOWS
    return api._replace(tainted=True, scheduler=goes_by)


def with_offer(node: Node, api: Api, count: int) -> tuple[Node, Api]:
    """The count written into the Node. A scheduler that has heard of the taint hears of the count no later than of
    the taint's end, for both are in one object; without a taint it goes by the higher count for a while."""
    behind = api.scheduler == KNOWS and not api.tainted and count < node.offered
    return node._replace(offered=count), api._replace(scheduler=node.offered) if behind else api


@cache
def controller(rules: Rules, api: Api, step: str) -> tuple[ApiMove, ...]:
    """It lifts the fence of an agent that has been silent for long, unless the fence says that only the agent may.
    That it writes any spec at any moment is in the agent's part, where a spec takes effect."""
    world, moves = rules.world, []
    if world.lifts and (step == "idle" or world.pauses):
        moves += _lifts(rules, api)
    if api.lifting:
        untainted = api._replace(tainted=False, lifting=False)
        moves.append(ApiMove("controller: takes the taint of the lifted fence away", True, untainted))
    if world.meddler and api.label and step != "idle" and may_change_label(rules, api):
        moves.append(ApiMove("somebody: removes the fence's label", False, with_label(api, False)))
    return tuple(moves)


def _lifts(rules: Rules, api: Api) -> list[ApiMove]:
    at_once = Guard.ATOMIC_LIFT in rules.guards
    if api.label and not api.changing and may_change_label(rules, api):
        lifted = with_label(api, False)
        lifted = lifted._replace(tainted=False) if at_once else lifted._replace(lifting=True)
        return [ApiMove("controller: lifts the fence of a silent agent", False, lifted)]
    if api.tainted and not api.label:
        text = "controller: takes the taint of a silent agent away"
        return [ApiMove(text, False, api._replace(tainted=False))]
    return []
