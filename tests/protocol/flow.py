"""The agent's control flow, and what its steps have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from tests.protocol.cluster import in_order
from tests.protocol.rules import Guard, Rules
from tests.protocol.state import BLANK, Agent, Api, Memory, Move, State, fenced_at

# From each step to those that may follow. Lowering the fence is a walk of its own: a change that gives up before its
# journal takes it too, without entering the phase `unfence`.
FLOW: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "idle": ("fence.taint", "lower.label", "idle"),
        "fence.taint": ("fence.label", "lower.label", "idle"),
        "fence.label": ("fence.probe", "lower.label", "idle"),
        "fence.probe": ("fence.probe", "fence.mark", "lower.label", "idle"),
        "fence.mark": ("fence.settle", "lower.label", "idle"),
        "fence.settle": ("quiet.list", "lower.label", "idle"),
        "quiet.list": ("quiet.kubelet", "lower.label", "idle"),
        "quiet.kubelet": ("quiet.driver", "lower.label", "idle"),
        "quiet.driver": ("guard.decide", "quiet.list", "lower.label", "idle"),
        "guard.decide": ("journal.write", "lower.label", "idle"),
        "journal.write": ("apply.step", "reload.hang_up", "lower.label", "idle"),
        "apply.step": ("apply.step", "apply.undo", "reload.hang_up"),
        "apply.undo": ("apply.undo", "reload.hang_up"),
        "reload.hang_up": ("reload.wait", "publish.nothing", "idle"),
        "reload.wait": ("publish.write", "idle"),
        "publish.nothing": ("unfence.verify", "idle"),
        "publish.write": ("unfence.verify", "idle"),
        "unfence.verify": ("unfence.compare", "idle"),
        "unfence.compare": ("lower.label", "idle"),
        "lower.label": ("lower.probe", "idle"),
        "lower.probe": ("lower.probe", "lower.taint"),
        "lower.taint": ("unfence.forget", "idle"),
        "unfence.forget": ("idle",),
    }
)


def to(state: State, step: str, memory: Memory = BLANK) -> State:
    return state._replace(agent=Agent(step, state.agent.journal, memory))


def give_up(rules: Rules, why: str, *states: State, surely: bool = False) -> Iterator[Move]:
    """A call failed, before it did anything or after. Nothing was touched by this change: the fence comes down,
    unless there is a journal."""
    for state in states if rules.world.calls_fail or surely else ():
        yield Move(why, surely, gave_up(rules, state))


def gave_up(rules: Rules, state: State) -> State:
    keeps = state.agent.journal and Guard.RECOVER in rules.guards
    return to(state, "idle" if keeps else first_of_lower(rules))


def proofs(rules: Rules, state: State, text: str, *, up: bool, enough: int, then: str) -> Iterator[Move]:
    """One more API server has given its proof; on when all have, whatever they hear afterwards."""
    api = state.api
    for index, server in enumerate(api.servers):
        stale = Guard.NUMBERED_PROOF in rules.guards and up and server >> 1
        if not server & 1 and fenced_at(server, api.label) is up and not stale:
            servers = (*api.servers[:index], server | 1, *api.servers[index + 1 :])
            proved = api._replace(servers=in_order(rules, servers))
            if sum(each & 1 for each in servers) >= enough:
                yield Move(f"{text}: enough", True, to(state._replace(api=unproved(rules, proved)), then))
            else:
                yield Move(text, True, state._replace(api=proved))


def unproved(rules: Rules, api: Api) -> Api:
    return api._replace(servers=in_order(rules, tuple(each & ~1 for each in api.servers)))


def first_of_lower(rules: Rules) -> str:
    """The step that a lowering of the fence begins with."""
    return "lower.label" if Guard.LABEL_FIRST in rules.guards else "lower.taint"


def said(actions: tuple[str, ...]) -> str:
    words = {"d": "destroy", "c": "create"}
    done = [f"{words[action]} slice {each}" for each, action in enumerate(actions) if action in words]
    return " and ".join(done) or "nothing to do but to bring all together again"
