"""The safety protocol, explored whole: nothing goes wrong, and the node always gets back to work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.agent.change import Phase
from tests.protocol.catalogue import BARE, CLAIMS, SAFETY, Claim, claimed, result_of
from tests.protocol.explore import explore, same_for_all_names
from tests.protocol.flow import FLOW
from tests.protocol.reading import numbered, tell
from tests.protocol.rules import Guard, Rules, World
from tests.protocol.state import Harm, State, at_rest

pytestmark = pytest.mark.timeout(300)  # of a busy machine; alone the longest takes some ten seconds


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_whatever_happens_no_pod_is_harmed_and_the_node_gets_back_to_work(claim: Claim) -> None:
    result = claimed(claim)
    tell(f"{claim.name}: {result.states} states, {result.moves} moves")
    assert result.harm is None, f"{result.harm}:\n{numbered(result.trace)}"


def test_the_world_of_the_main_claim_is_the_one_that_the_issue_asks_for() -> None:
    world = CLAIMS[0].rules.world
    assert (world.pods, world.servers) == (3, 2)
    assert CLAIMS[0].rules.guards == frozenset(Guard)
    faults = ("crashes", "calls_fail", "plugin_dies", "kubelet_restarts", "late_hold", "force_deletes", "direct_pods")
    assert all(getattr(world, each) for each in faults)


def test_the_model_goes_through_the_phases_of_the_code_in_their_order() -> None:
    phases = [step.partition(".")[0] for step in FLOW if step != "idle"]
    of_change = [each for each in dict.fromkeys(phases) if each != "lower"]
    assert of_change == [phase.value for phase in Phase]


def test_the_control_flow_is_just_what_the_agent_of_the_model_does() -> None:
    """No step in it that the model never takes, and none that it takes beside it."""
    taken = frozenset[tuple[str, str]]().union(*(claimed(each).steps for each in CLAIMS))
    # The first step of a change is done at rest: there is no state between the decision for it and the step.
    begun = {("fence.taint" if here == "idle" and there != "lower.label" else here, there) for here, there in taken}
    written = {(here, there) for here, following in FLOW.items() for there in following}
    waits = {(here, there) for here, there in written if here == there}
    at_rest_already = {("idle", "fence.taint"), ("idle", "idle"), ("fence.taint", "lower.label")}
    dies = {(here, "idle") for here in FLOW}
    assert begun - dies <= written
    assert written - waits - at_rest_already - dies <= begun


def test_without_faults_a_change_goes_from_rest_to_rest() -> None:
    found = explore(Rules(BARE), SAFETY)
    assert sum(map(at_rest, found.states)) > 1
    assert {len(state.pods) for state in found.states} == {1}
    layouts = {state.node.slices for state in found.states if at_rest(state)}
    assert layouts == {0, 1, 2, 3}


def test_states_that_differ_by_names_alone_are_rightly_taken_as_one() -> None:
    """The exploration that takes them as one reaches exactly the states of the other one, up to names."""
    world = World(pods=2, alike=False, crashes=False, calls_fail=False, kubelet_restarts=False, nominates=False)
    full = explore(Rules(world), SAFETY)
    reduced = explore(Rules(replace(world, alike=True)), SAFETY)
    assert full.harm is None
    assert reduced.harm is None
    assert set(map(in_order, full.states)) == set(reduced.states)
    assert len(reduced.states) < len(full.states) / 3


def in_order(state: State) -> State:
    """The state by which the reduced exploration knows it."""
    servers = tuple(sorted(state.api.servers))
    return same_for_all_names(state._replace(pods=tuple(sorted(state.pods)), api=state.api._replace(servers=servers)))


@pytest.mark.parametrize("guard", [Guard.SETTLE, Guard.QUIET, Guard.PROCESSES, Guard.JOURNAL])
def test_a_harm_is_found_with_names_and_without(guard: Guard) -> None:
    worlds = [World(pods=1, alike=alike, plugin_dies=False, kubelet_restarts=False) for alike in (False, True)]
    found = [result_of(Rules(world).without(guard), SAFETY) for world in worlds]
    assert len({len(each.trace) for each in found}) == 1
    assert all(each.harm in (Harm.BUSY_DESTROYED, Harm.FAILED, Harm.DEAD_DEVICE) for each in found)
