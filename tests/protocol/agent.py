"""The agent: what it may do next, by the step it is at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from tests.protocol import agent_after, agent_before
from tests.protocol.cluster import with_offer
from tests.protocol.flow import FLOW, first_of_lower, to, unproved
from tests.protocol.rules import Guard, Rules
from tests.protocol.state import Agent, Link, Move, State


def agent(rules: Rules, state: State) -> Iterator[Move]:
    """What the agent may do next. It may also die at any step, and be started again; what is on disk and at the API
    stays as it was."""
    now = state.agent
    if rules.world.crashes and now.step != "idle":
        forgotten = state._replace(api=unproved(rules, state.api), agent=Agent("idle", now.journal))
        yield Move(_DIES[now.step], False, forgotten)
    yield from _STEPS[now.step](rules, state)


_DIES = {each: f"agent: dies before {each}" for each in FLOW}


def _idle(rules: Rules, state: State) -> Iterator[Move]:
    """Begin a change because one is owed, or because a spec wants something; or put the counts right."""
    node, api, journal = state.node, state.api, state.agent.journal
    carries = api.label or api.tainted
    differs = node.link == Link.SERVING and node.listed != node.slices
    yield from agent_before.taint(rules, state, journal or carries or differs)
    if carries and (not journal or Guard.RECOVER not in rules.guards):
        text = "agent: cannot look at the node; lowers a fence behind which it knows of no change"
        yield Move(text, False, to(state, first_of_lower(rules)))
    count = node.slices.bit_count()
    if node.offered != count and (node.listed == node.slices or Guard.BEHIND_KUBELET not in rules.guards):
        put_right, heard = with_offer(node, api, count)
        yield Move(f"agent: sets allocatable to {count}", True, state._replace(node=put_right, api=heard))


_STEPS: Final[Mapping[str, Callable[[Rules, State], Iterator[Move]]]] = MappingProxyType(
    {
        "idle": _idle,
        "fence.label": agent_before.label,
        "fence.probe": agent_before.probe,
        "fence.mark": agent_before.mark,
        "fence.settle": agent_before.settle,
        "quiet.list": agent_before.list_pods,
        "quiet.kubelet": agent_before.first_look,
        "quiet.driver": agent_before.second_look,
        "guard.decide": agent_before.decide,
        "journal.write": agent_after.write_journal,
        "apply.step": agent_after.apply,
        "apply.undo": agent_after.undo,
        "reload.hang_up": agent_after.hang_up,
        "reload.wait": agent_after.wait,
        "publish.nothing": agent_after.publish_nothing,
        "publish.write": agent_after.publish,
        "unfence.verify": agent_after.verify,
        "unfence.compare": agent_after.compare,
        "lower.label": agent_after.lower_label,
        "lower.probe": agent_after.lower_probe,
        "lower.taint": agent_after.lower_taint,
        "unfence.forget": agent_after.forget,
    }
)
