"""Whether a trace of the real agent is one that the model's agent can leave behind.

The model is walked along the trace. Where it could be in several states it is in all of them; between two steps of
the agent the rest of the world does whatever it must do by itself: API servers hear, the plugin registers.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from tests.protocol.agent import agent
from tests.protocol.explore import moves
from tests.protocol.rules import Rules, World
from tests.protocol.state import Agent, State

# A world in which nobody but the agent does anything that need not be: what it meets is what the rig shows it.
CALM = Rules(
    World(
        pods=1,
        alike=False,
        plugin_dies=False,
        kubelet_restarts=False,
        late_hold=False,
        force_deletes=False,
        direct_pods=False,
        nominates=False,
        administrator=False,
    )
)


def walk(states: Iterable[State], trace: Iterable[str]) -> frozenset[State]:
    """Where the model can be after these steps, done or failed; empty when it cannot do them."""
    now = frozenset(after for state in states for after in _settled(state))
    for step in trace:
        now = frozenset(after for state in now for after in _done(state, step))
    return now


@cache
def _done(state: State, step: str) -> frozenset[State]:
    """All that can come of one step, which may consist of several calls that the trace tells as one."""
    todo = [state] if _is_at(state, step) else []
    seen: set[State] = set()
    while todo:
        for move in agent(CALM, todo.pop()):
            if move.state not in seen and not move.text.startswith(_NOT_A_STEP):
                settled = _settled(move.state)
                todo += (each for each in settled - seen if each.agent.step == step)
                seen |= settled
    return frozenset(seen)


_NOT_A_STEP = ("agent: dies", "agent: cannot look", "agent: sets allocatable")


def _is_at(state: State, step: str) -> bool:
    return state.agent.step == step or (state.agent.step == "idle" and step == "fence.taint")


@cache
def _settled(state: State) -> frozenset[State]:
    """The state, and those to which the world around the agent gets from it by itself."""
    todo = [state]
    seen = {state}
    while todo:
        for move in moves(CALM, todo.pop()):
            if move.surely and not move.text.startswith("agent:") and move.state not in seen:
                seen.add(move.state)
                todo.append(move.state)
    return frozenset(seen)


def killed(states: Iterable[State]) -> frozenset[State]:
    """The same, the agent having died: the step that it was about to do was not done."""
    return frozenset(
        state._replace(
            agent=Agent("idle", state.agent.journal),
            api=state.api._replace(servers=tuple(each & ~1 for each in state.api.servers)),
        )
        for state in states
    )
