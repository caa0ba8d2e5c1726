"""Every state that can be reached, breadth first; a shortest way to a harm; and whether every way can end well."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from tests.protocol.agent import agent
from tests.protocol.cluster import api_servers, controller, people, scheduler
from tests.protocol.kubelet import kubelet, plugin, status
from tests.protocol.rules import Rules
from tests.protocol.state import HOLDS, Agent, Harm, Move, Node, Plan, Pods, State, at_rest, start


def moves(rules: Rules, state: State) -> Iterator[Move]:
    """Everything that may happen next, by whomever."""
    pods, node, api, mind = state
    for told in scheduler(rules, pods, node.offered, api):
        yield Move(told.text, told.surely, State(told.pods, node, told.api, mind), told.harm)
    for told in people(rules, pods, node.offered, api):
        yield Move(told.text, told.surely, State(told.pods, node, told.api, mind))
    for heard in (*api_servers(rules, api), *controller(rules, api, mind.step)):
        yield Move(heard.text, heard.surely, State(pods, node, heard.api, mind))
    for done in (*kubelet(rules, pods, node), *plugin(rules, pods, node)):
        yield Move(done.text, done.surely, State(done.pods, done.node, api, mind), done.harm)
    for written in status(rules, node, api):
        yield Move(written.text, written.surely, State(pods, written.node, written.api, mind))
    yield from agent(rules, state)


# --- states that differ by the names of slices alone ------------------------------------------------------------

_SWAPPED_MASK = (0, 2, 1, 3)


def same_for_all_names(state: State) -> State:
    """The one state that stands for it and for its mirror image, in which the slices have each other's name."""
    pods, node, api, agent = state
    other = _mirrored_node(node)
    if node < other:
        return state
    mirrored = State(_mirrored_pods(pods), other, api, _mirrored_agent(agent))
    return mirrored if other < node else min(state, mirrored)


@cache
def _mirrored_pods(pods: Pods) -> Pods:
    return tuple(sorted(each ^ 1 if each >= HOLDS else each for each in pods))


@cache
def _mirrored_node(node: Node) -> Node:
    return node._replace(
        slices=_SWAPPED_MASK[node.slices], listed=_SWAPPED_MASK[node.listed], unseen=_SWAPPED_MASK[node.unseen]
    )


@cache
def _mirrored_agent(agent: Agent) -> Agent:
    memory = agent.memory
    plan = Plan(memory.plan.second, memory.plan.first, memory.plan.undoing)
    blocked, expected = _SWAPPED_MASK[memory.blocked], _SWAPPED_MASK[memory.expected]
    return agent._replace(memory=memory._replace(blocked=blocked, expected=expected, plan=plan))


# --- the exploration --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Explored:
    """What an exploration found. States are numbered in the order in which they were reached."""

    rules: Rules
    states: list[State]
    came_from: array[int]
    harm: Harm | None = None
    trace: tuple[str, ...] = ()
    moves: int = 0
    steps: set[tuple[str, str]] = field(default_factory=set)  # of the agent: from which to which
    sure_from: array[int] = field(default_factory=lambda: array("l"))  # moves that can be relied on: from
    sure_to: array[int] = field(default_factory=lambda: array("l"))  # and to


def explore(rules: Rules, watched: frozenset[Harm]) -> Explored:
    """Every state, or as many as it takes to find one of these harms; others are not looked at."""
    # There are no cycles among millions of tuples, and the collector would look for them again and again.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _explore(rules, watched)
    finally:
        if collects:
            gc.enable()


def _explore(rules: Rules, watched: frozenset[Harm]) -> Explored:
    alike = rules.world.alike
    first = start(rules.world.pods, rules.world.servers, rules.world.slices)
    number = {first: 0}
    found = Explored(rules, [first], array("l", [-1]))
    states, came_from, sure_from, sure_to = found.states, found.came_from, found.sure_from, found.sure_to
    here = 0
    while here < len(states):
        now = states[here]
        mind = now.agent
        for text, surely, after, harm in moves(rules, now):
            found.moves += 1
            if after.agent is not mind:
                found.steps.add((mind.step, after.agent.step))
            if harm is not None and harm in watched:
                found.harm, found.trace = harm, (*_way_to(found, here), text)
                return found
            state = same_for_all_names(after) if alike else after
            there = number.get(state)
            if there is None:
                there = number[state] = len(states)
                states.append(state)
                came_from.append(here)
            if surely:
                sure_from.append(here)
                sure_to.append(there)
        here += 1
    return found


def _way_to(found: Explored, goal: int) -> Iterator[str]:
    """What happened on the way from the start, told anew: states alone are kept."""
    path = [goal]
    while found.came_from[path[-1]] >= 0:
        path.append(found.came_from[path[-1]])
    alike = found.rules.world.alike
    for here, there in zip(reversed(path), [*reversed(path)][1:], strict=False):
        for move in moves(found.rules, found.states[here]):
            if (same_for_all_names(move.state) if alike else move.state) == found.states[there]:
                yield move.text
                break


def way_to_a_dead_end(found: Explored) -> tuple[str, ...] | None:
    """A shortest way to a state from which no state at rest can be reached by moves that can be relied on."""
    back: list[list[int]] = [[] for _ in found.states]
    for here, there in zip(found.sure_from, found.sure_to, strict=True):
        back[there].append(here)
    good = bytearray(len(found.states))
    todo = [each for each, state in enumerate(found.states) if at_rest(state)]
    for each in todo:
        good[each] = 1
    while todo:
        for each in back[todo.pop()]:
            if not good[each]:
                good[each] = 1
                todo.append(each)
    lost = good.find(0)
    return tuple(_way_to(found, lost)) if lost >= 0 else None
