"""Which worlds are explored whole, what each guard is for, and what would break the protocol all the same.

Counter-examples are looked for in the smallest world that has one: two slices, one pod, two API servers, and only
those faults that it takes. What goes wrong in a small world goes wrong in every bigger one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from tests.protocol.explore import explore, way_to_a_dead_end
from tests.protocol.rules import Guard, Rules, World
from tests.protocol.state import Harm

SAFETY: Final = frozenset({Harm.BUSY_DESTROYED, Harm.FAILED, Harm.DEAD_DEVICE, Harm.UNSEEN_DESTROYED})

# --- worlds that are explored whole -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A world in which nothing may go wrong, and from every state of which the node gets back to work."""

    name: str
    rules: Rules


CLAIMS: Final = (
    Claim(
        "2 slices, 3 pods, 2 API servers; crashes, lost calls, dying plugins, kubelet restarts, forced deletions",
        Rules(World()),
    ),
    Claim("1 pod; API servers up to three changes of the fence behind", Rules(World(pods=1, behind=3))),
    Claim(
        "1 pod; an agent that stands still anywhere for so long that the controller lifts its fence",
        Rules(World(pods=1, lifts=True, pauses=True)),
    ),
    Claim(
        "2 pods, 1 API server; pods that start slowly, pods whose devices nobody shows",
        Rules(World(pods=2, servers=1, slow_start=True, init_only=True)),
    ),
    Claim(
        "1 pod, 1 API server; a kubelet that forgets its pods when it restarts",
        Rules(World(pods=1, servers=1, forgetful=True)),
    ),
    Claim(
        "1 pod, 1 API server; a kubelet whose reports of its devices are late",
        Rules(World(pods=1, servers=1, slow_status=True, force_deletes=False, late_hold=False)),
    ),
    Claim(
        "1 pod, 1 API server; slices made beside CDMO, the node itself without faults",
        Rules(
            World(pods=1, servers=1, made_by_hand=True, plugin_dies=False, kubelet_restarts=False, late_hold=False)
        ),
    ),
)

# --- what each guard is for -------------------------------------------------------------------------------------

BARE: Final = World(
    pods=1,
    alike=False,
    crashes=False,
    calls_fail=False,
    plugin_dies=False,
    kubelet_restarts=False,
    late_hold=False,
    force_deletes=False,
    direct_pods=False,
    nominates=False,
    administrator=False,
)


@dataclass(frozen=True, slots=True)
class Case:
    """A guard, the world in which its absence shows, and what then happens."""

    guard: Guard
    harm: Harm
    world: World = BARE


CASES: Final = (
    Case(Guard.TAINT, Harm.FAILED),
    Case(Guard.LABEL, Harm.BUSY_DESTROYED, replace(BARE, nominates=True)),
    Case(Guard.POLICY_PODS, Harm.BUSY_DESTROYED, replace(BARE, direct_pods=True)),
    Case(Guard.PROBE_ALL, Harm.BUSY_DESTROYED, replace(BARE, direct_pods=True)),
    Case(Guard.NUMBERED_PROOF, Harm.BUSY_DESTROYED, replace(BARE, direct_pods=True, crashes=True, behind=2)),
    Case(Guard.HEARD, Harm.FAILED),
    Case(Guard.SETTLE, Harm.BUSY_DESTROYED),
    Case(Guard.QUORUM_LIST, Harm.BUSY_DESTROYED),
    Case(Guard.QUIET, Harm.FAILED),
    Case(Guard.HOLDERS, Harm.BUSY_DESTROYED, replace(BARE, slices=3, slow_start=True)),
    Case(Guard.HIDDEN, Harm.BUSY_DESTROYED, replace(BARE, slices=3, init_only=True)),
    Case(Guard.PROCESSES, Harm.BUSY_DESTROYED, replace(BARE, force_deletes=True)),
    Case(Guard.KUBELET_FIRST, Harm.BUSY_DESTROYED, replace(BARE, slices=3, force_deletes=True, slow_start=True)),
    Case(Guard.COVERAGE, Harm.FAILED, replace(BARE, nominates=True)),
    Case(Guard.REVISION, Harm.UNSEEN_DESTROYED, replace(BARE, made_by_hand=True)),
    Case(Guard.MARK, Harm.DEAD_DEVICE, replace(BARE, crashes=True, lifts=True)),
    Case(Guard.ATOMIC_LIFT, Harm.FAILED, replace(BARE, lifts=True, pauses=True)),
    Case(Guard.JOURNAL, Harm.DEAD_DEVICE, replace(BARE, crashes=True)),
    Case(Guard.RECOVER, Harm.DEAD_DEVICE, replace(BARE, crashes=True)),
    Case(Guard.RELOAD, Harm.DEAD_DEVICE),
    Case(Guard.HOLD, Harm.STUCK),
    Case(Guard.OLD_SOCKETS, Harm.FAILED),
    Case(Guard.LISTED, Harm.FAILED),
    Case(Guard.SOCKETS, Harm.FAILED, replace(BARE, late_hold=True)),
    Case(Guard.KEEP_FENCE, Harm.DEAD_DEVICE, replace(BARE, calls_fail=True)),
    Case(Guard.PUBLISH, Harm.FAILED),
    Case(Guard.RELOAD_FIRST, Harm.FAILED),
    Case(Guard.VERIFY, Harm.UNREPORTED, replace(BARE, meddler=True)),
    Case(Guard.COMPARE, Harm.FAILED, replace(BARE, slow_status=True)),
    Case(Guard.LABEL_FIRST, Harm.REFUSED),
    Case(Guard.PROBE_GONE, Harm.REFUSED),
    Case(Guard.BEHIND_KUBELET, Harm.FAILED, replace(BARE, made_by_hand=True)),
)

# --- what would break it all the same ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Risk:
    """Something outside the protocol that it does not stand up to."""

    name: str
    world: World
    harm: Harm


RISKS: Final = (
    Risk(
        "the scheduler cannot be asked what it knows of the node, and knows nothing of the change",
        replace(BARE, unasked=True),
        Harm.FAILED,
    ),
    Risk(
        "the kubelet's report of its devices is under way for longer than the fence stands",
        replace(BARE, slow_status=True, reports_outlast=True),
        Harm.FAILED,
    ),
    Risk(
        "somebody else removes the fence's label", replace(BARE, meddler=True, direct_pods=True), Harm.BUSY_DESTROYED
    ),
    Risk(
        "a pod is bound and, before the kubelet has admitted it, deleted by force",
        replace(BARE, ghosts=True),
        Harm.BUSY_DESTROYED,
    ),
)

# --- the explorations, each done once ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an exploration. Of the states themselves nothing is kept: they are many."""

    states: int
    moves: int
    harm: Harm | None
    trace: tuple[str, ...]
    steps: frozenset[tuple[str, str]]  # what the agent did, from step to step


@cache
def result_of(rules: Rules, watched: frozenset[Harm]) -> Result:
    """Explore, and look for dead ends where nothing else is wrong and Harm.STUCK is asked for."""
    found = explore(rules, watched)
    harm, trace = found.harm, found.trace
    if harm is None and Harm.STUCK in watched:
        dead_end = way_to_a_dead_end(found)
        harm, trace = (None, ()) if dead_end is None else (Harm.STUCK, dead_end)
    return Result(len(found.states), found.moves, harm, trace, frozenset(found.steps))


def claimed(claim: Claim) -> Result:
    """The result of a world in which nothing may go wrong."""
    return result_of(claim.rules, SAFETY | {Harm.STUCK})


@cache
def with_guard(case: Case) -> Result:
    """The case's world with all guards."""
    return result_of(Rules(replace(case.world, alike=True)), frozenset({case.harm}))


@cache
def without_guard(case: Case) -> Result:
    """The case's world without its guard."""
    return result_of(Rules(case.world).without(case.guard), _watched(case.harm))


@cache
def at_risk(risk: Risk) -> Result:
    """The risk's world, as the code is."""
    return result_of(Rules(risk.world), _watched(risk.harm))


def _watched(harm: Harm) -> frozenset[Harm]:
    """The shortest way to any harm of the same sort is told."""
    return SAFETY if harm in SAFETY else frozenset({harm})
