"""The agent before it touches anything: fence, quiet, guard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.protocol.cluster import may_change_label, with_label, with_taint
from tests.protocol.flow import gave_up, give_up, proofs, said, to, unproved
from tests.protocol.rules import Guard, Rules
from tests.protocol.state import (
    AWAITED,
    BOUND,
    IN_FLIGHT,
    IS_HIDDEN,
    KNOWS,
    ON_NODE,
    RUNS,
    SHOWN,
    SLICES,
    Memory,
    Move,
    Plan,
    State,
    masks,
)

# --- fence ------------------------------------------------------------------------------------------------------


def taint(rules: Rules, state: State, owed: bool) -> Iterator[Move]:
    """The first step of a change that is owed, or that a spec asks for.

    In the code taint and label are one write. Here others may come between, so what holds here holds there.
    """
    api = with_taint(state.api, state.node.offered) if Guard.TAINT in rules.guards else state.api
    why = "an earlier change is owed" if owed else "a spec wants another layout"
    tainted = state._replace(api=api)
    yield Move(f"agent: fence.taint, for {why}", owed, to(tainted, "fence.label"))
    yield from give_up(rules, "agent: fence.taint fails, gives up", state, tainted)


def label(rules: Rules, state: State) -> Iterator[Move]:
    if Guard.LABEL not in rules.guards:
        yield Move("agent: fence.label is left out", True, to(state, "fence.mark"))
        return
    if state.api.label or may_change_label(rules, state.api):
        api = with_label(state.api, True)
        labelled = state._replace(api=api)
        yield Move("agent: fence.label", True, to(labelled, "fence.probe"))
        yield from give_up(rules, "agent: fence.label fails, gives up", state, labelled)


def probe(rules: Rules, state: State) -> Iterator[Move]:
    enough = len(state.api.servers) if Guard.PROBE_ALL in rules.guards else 1
    text = "agent: fence.probe, one API server refuses"
    yield from proofs(rules, state, text, up=True, enough=enough, then="fence.mark")
    late = state._replace(api=unproved(rules, state.api))
    hopeless = not state.api.label  # somebody took it away
    yield from give_up(rules, "agent: fence.probe, no proof in time, gives up", late, surely=hopeless)


def mark(rules: Rules, state: State) -> Iterator[Move]:
    """The fence is the agent's alone from now on, if it is still there: a compare-and-swap with the controller's."""
    api = state.api
    whole = api.label and (api.tainted or not {Guard.ATOMIC_LIFT, Guard.TAINT} <= rules.guards)
    if not {Guard.MARK, Guard.LABEL} <= rules.guards:
        yield Move("agent: fence.mark is left out", True, to(state, "fence.settle"))
    elif not whole:
        yield Move("agent: fence.mark, the fence was lifted: gives up", True, gave_up(rules, state))
    else:
        marked = state._replace(api=api._replace(changing=True))
        yield Move("agent: fence.mark", True, to(marked, "fence.settle"))
        yield from give_up(rules, "agent: fence.mark fails, gives up", state, marked)


def settle(rules: Rules, state: State) -> Iterator[Move]:
    """On when what had begun before the fence was proved is over. The scheduler shows that it knows of the label, and
    so of the taint, which went up with it: it decides for this node no more, and what it had decided is told.

    ASSUMED: binds that were admitted are in the store when the fence has settled.
    """
    asks = {Guard.HEARD, Guard.LABEL, Guard.TAINT} <= rules.guards and not rules.world.unasked
    over = IN_FLIGHT not in state.pods or Guard.SETTLE not in rules.guards
    if over and (state.api.scheduler == KNOWS or not asks):
        yield Move("agent: fence.settle", True, to(state, "quiet.list"))
    if asks:
        yield from give_up(rules, "agent: fence.settle, the scheduler does not show what it knows, gives up", state)


# --- quiet and guard --------------------------------------------------------------------------------------------


def list_pods(rules: Rules, state: State) -> Iterator[Move]:
    """Which pods count. From a cache, those that were bound last may be missing."""
    for misses in (False, True) if Guard.QUORUM_LIST not in rules.guards else (False,):
        pods = state.pods if misses else tuple(AWAITED if each == BOUND else each for each in state.pods)
        demand = sum(ON_NODE[each] for each in pods if each not in (IN_FLIGHT, BOUND))
        text = "agent: quiet.list" + (", from a cache that has not the last binds" if misses else "")
        listed = state._replace(pods=tuple(sorted(pods)) if rules.world.alike else pods)
        yield Move(text, True, to(listed, "quiet.kubelet", Memory(demand=demand)))
    yield from give_up(rules, "agent: quiet.list fails, gives up", state)


def first_look(rules: Rules, state: State) -> Iterator[Move]:
    look = look_at_kubelet if Guard.KUBELET_FIRST in rules.guards else look_at_driver
    for memory in look(rules, state):
        yield Move("agent: quiet.kubelet", True, to(state, "quiet.driver", memory))
    yield from give_up(rules, "agent: quiet.kubelet fails, gives up", _unlisted(rules, state))


def second_look(rules: Rules, state: State) -> Iterator[Move]:
    seen = _unlisted(rules, state)
    look = look_at_driver if Guard.KUBELET_FIRST in rules.guards else look_at_kubelet
    for memory in look(rules, state):
        if memory.waiting and Guard.QUIET in rules.guards:
            yield Move("agent: quiet.driver, a bound pod shows no device: looks again", True, to(seen, "quiet.list"))
        else:
            yield Move("agent: quiet.driver", True, to(seen, "guard.decide", memory._replace(waiting=False)))
    yield from give_up(rules, "agent: quiet.driver fails or a pod stays without a device, gives up", seen)


def _unlisted(rules: Rules, state: State) -> State:
    pods = tuple(BOUND if each == AWAITED else each for each in state.pods)
    return state._replace(pods=tuple(sorted(pods)) if rules.world.alike else pods)


def look_at_kubelet(rules: Rules, state: State) -> Iterator[Memory]:
    """What PodResources says of the listed pods. Where it names no device for a pod that has one, all depends on the
    pod's status, which may be late: still Pending; Running with its device ids; Running without them."""
    memory, pods, guards = state.agent.memory, state.pods, rules.guards
    memory = memory._replace(waiting=memory.waiting or AWAITED in pods)
    shown = masks(pods, SHOWN)
    unexplained = any(IS_HIDDEN[each] for each in pods) or (state.node.forgot and shown)
    by_kubelet = 0 if state.node.forgot or Guard.HOLDERS not in guards else shown
    memory = memory._replace(blocked=memory.blocked | by_kubelet)
    if not unexplained:
        yield memory
        return
    yield memory._replace(waiting=True)
    yield memory._replace(hidden=Guard.HIDDEN in guards)
    if shown and Guard.STATUS_IDS in guards and not any(IS_HIDDEN[each] for each in pods):
        yield memory._replace(blocked=memory.blocked | shown)


def look_at_driver(rules: Rules, state: State) -> Iterator[Memory]:
    memory = state.agent.memory
    with_processes = masks(state.pods, RUNS) if Guard.PROCESSES in rules.guards else 0
    yield memory._replace(blocked=memory.blocked | with_processes)


def decide(rules: Rules, state: State) -> Iterator[Move]:
    """Any spec: each slice that may go goes or stays, each that is not there is made or not. Without anything to do
    the change goes through to its end when an earlier one is owed, and may do so anyway."""
    memory, node = state.agent.memory, state.node
    may_go = node.slices & ~memory.blocked & (0 if memory.hidden else 3)
    if Guard.REVISION in rules.guards:
        may_go &= ~node.unseen
    choices = ["-d" if may_go >> each & 1 else "-" if node.slices >> each & 1 else "-c" for each in SLICES]
    for actions in product(*choices):
        stay = node.slices.bit_count() - actions.count("d")
        if "d" in actions and memory.demand > stay and Guard.COVERAGE in rules.guards:
            continue
        nothing = actions == ("-", "-")
        text = f"agent: guard.decide, {said(actions)}"
        yield Move(text, nothing, to(state, "journal.write", Memory(plan=Plan(actions[0], actions[1]))))
    if not state.agent.journal:
        yield Move("agent: guard.decide, nothing to do: gives up", True, gave_up(rules, state))
