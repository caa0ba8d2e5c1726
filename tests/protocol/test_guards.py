"""Every guard of the protocol is needed: without it the model finds a way to harm, which is printed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.protocol.agent_before import look_at_kubelet
from tests.protocol.catalogue import (
    BARE,
    CASES,
    RISKS,
    SAFETY,
    Case,
    Risk,
    at_risk,
    result_of,
    with_guard,
    without_guard,
)
from tests.protocol.reading import numbered, tell
from tests.protocol.rules import Guard, Rules, World
from tests.protocol.state import HOLDS, Harm, start

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.guard.name)
def test_without_a_guard_harm_is_done(case: Case) -> None:
    result = without_guard(case)
    tell(f"without: {case.guard}\n{result.harm}, in {len(result.trace)} steps:\n{numbered(result.trace)}")
    assert result.harm is case.harm
    assert with_guard(case).harm is None


def test_every_guard_has_a_case_but_the_one_that_only_saves_waiting() -> None:
    assert {case.guard for case in CASES} == set(Guard) - {Guard.STATUS_IDS}
    assert len({case.guard for case in CASES}) == len(CASES)


def looks_at_a_kubelet_that_forgot(rules: Rules) -> set[tuple[int, bool, bool]]:
    """What the agent may take from it: the slices that may not go, hidden pods, pods that are waited for."""
    rested = start(pods=1, servers=2, slices=3)
    state = rested._replace(pods=(HOLDS,), node=rested.node._replace(forgot=True))
    return {(each.blocked, each.hidden, each.waiting) for each in look_at_kubelet(rules, state)}


def test_the_device_ids_in_a_pods_status_only_save_waiting() -> None:
    """Without them a running pod that the kubelet does not show holds every slice of its profile (Guard.HIDDEN)."""
    pending, running, told = (0, False, True), (0, True, False), (1, False, False)
    assert looks_at_a_kubelet_that_forgot(Rules(BARE)) == {pending, running, told}
    assert looks_at_a_kubelet_that_forgot(Rules(BARE).without(Guard.STATUS_IDS)) == {pending, running}


def test_without_both_ways_to_know_a_pod_that_the_kubelet_forgot_its_slice_is_destroyed() -> None:
    world = replace(BARE, slices=3, kubelet_restarts=True, forgetful=True, slow_start=True)
    assert result_of(Rules(world).without(Guard.STATUS_IDS), SAFETY).harm is None
    both = result_of(Rules(world).without(Guard.STATUS_IDS, Guard.HIDDEN), SAFETY)
    assert both.harm is Harm.BUSY_DESTROYED


def test_a_driver_that_refuses_itself_is_a_second_line_behind_the_look_at_processes() -> None:
    """It is not relied on: a process that has the device but has not opened it yet is unknown to it as well."""
    world = replace(BARE, force_deletes=True)
    assert result_of(Rules(world).without(Guard.PROCESSES), SAFETY).harm is Harm.BUSY_DESTROYED
    refuses = replace(world, driver_refuses=True)
    assert result_of(Rules(refuses).without(Guard.PROCESSES), SAFETY).harm is None


def test_the_taint_is_more_than_politeness() -> None:
    """It spares binds that would be refused; and who has heard of its end has heard of the smaller count."""
    assert result_of(Rules(BARE), frozenset({Harm.REFUSED})).harm is None
    assert result_of(Rules(BARE).without(Guard.TAINT), frozenset({Harm.REFUSED})).harm is Harm.REFUSED
    assert result_of(Rules(BARE).without(Guard.TAINT), SAFETY).harm is Harm.FAILED


def test_without_the_hold_a_broken_kubelet_waits_for_an_administrator_behind_the_fence() -> None:
    """No pod is harmed: the broken kubelet is noticed. Only the node is lost until somebody restarts it."""
    stuck = frozenset({*SAFETY, Harm.STUCK})
    assert result_of(Rules(BARE).without(Guard.HOLD), stuck).harm is Harm.STUCK
    assert result_of(Rules(replace(BARE, administrator=True)).without(Guard.HOLD), stuck).harm is None


@pytest.mark.parametrize("risk", RISKS, ids=lambda risk: risk.name)
def test_what_the_protocol_does_not_stand_up_to_is_known(risk: Risk) -> None:
    result = at_risk(risk)
    tell(f"{risk.name}\n{result.harm}, in {len(result.trace)} steps:\n{numbered(result.trace)}")
    assert result.harm is risk.harm


def test_more_of_the_same_changes_nothing() -> None:
    """A third API server and a third pod find no harm that two do not have."""
    world = World(pods=1, servers=3, kubelet_restarts=False, plugin_dies=False, late_hold=False)
    assert result_of(Rules(world), SAFETY | {Harm.STUCK}).harm is None
