"""The planner: which slices to cut where, for which pod. Pure: standard library and `cdmo.model` alone.

    plan(snapshot, policy) -> Plan

The idea, in the order in which a plan is made:
 1. `standing`  what stands on each node: what is held, about to be taken, on its way, adopted
    `ledger`    what every GPU is to look like; a journal that can be taken back
    `index`     GPUs in buckets by shape and node class, ranked by what a slice costs there
 2. `keep`      pods that were planned before keep their slices where they can still have them
 3. `batch`     everyone else, by priority and age; when not all fit, the largest are placed first
    `seek`      one pod's place: reuse an idle slice, else create in free slots, else destroy idle slices.
                `shape` and `placement` hold what is precomputed about cards, `fit` looks for several slices at once,
                `packing` finds how many of a long queue fit together; `eligible` and `relations` (by `company`) say
                where a pod may run
    `window`    slots kept for the oldest pod that finds no room
 4. `waiting`   whoever got nothing learns why, in a sentence (`reasons`) that a person can act on
 5. layouts that differ from what was asked of a GPU become changes

`check.violations` says what is wrong with a plan; it is asked before a plan is published, and by the tests.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Plan, Window
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Assignment, MigNodeView, SliceChoice, Snapshot
from cdmo.planner.attempt import Attempt
from cdmo.planner.batch import Batch
from cdmo.planner.company import company_of
from cdmo.planner.index import Index
from cdmo.planner.keep import avoided, keep_assignments
from cdmo.planner.ledger import Ledger, NodeState
from cdmo.planner.seek import Picks, Seeker
from cdmo.planner.shape import Shapes
from cdmo.planner.waiting import Explainer
from cdmo.planner.window import KeptWindow, keep_window

__all__ = ["Planner", "in_order", "plan"]

MOST_SHAPES = 30_000  # different GPUs met, some 60 MB; then everything is worked out anew


def plan(snapshot: Snapshot, policy: Policy) -> Plan:
    """A place or a reason for every pending pod, and the layouts that follow. Same input, same plan."""
    shapes = _shapes()
    if len(shapes) > MOST_SHAPES:
        _shapes.cache_clear()
    return Planner(shapes).plan_once(snapshot, policy)


@lru_cache(maxsize=1)
def _shapes() -> Shapes:
    """What one plan found out about cards is as true for the next."""
    return Shapes()


class Planner:
    """`plan` for one snapshot after another: the same answers, sooner.

    It remembers what follows from a node's view, and recognises a view that did not change by its identity.
    """

    def __init__(self, shapes: Shapes | None = None) -> None:
        """`shapes`: what is known about cards already."""
        self._ledger = Ledger(Shapes() if shapes is None else shapes)
        self._index = Index()

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """The same as `plan(snapshot, policy)`."""
        if len(self._ledger.shapes) > MOST_SHAPES:
            self._forget()
        try:
            answer = self.plan_once(snapshot, policy)
            self._ledger.rollback(self._ledger.beginning)
        except BaseException:
            self._forget()  # half of a plan must not show in the next one
            raise
        return answer

    def learn(self, views: tuple[MigNodeView, ...]) -> None:
        """Get to know nodes before they are planned on: a snapshot with these views is then planned sooner."""
        with _no_collection():
            self._index.update(*self._ledger.update(views))
            self._index.rank(self._ledger.offered, self._ledger.begin())

    def plan_once(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """The same for a planner that is not used again."""
        with _no_collection():
            return self._planned(snapshot, policy)

    def _planned(self, snapshot: Snapshot, policy: Policy) -> Plan:
        self._index.begin()
        queue = in_order(snapshot.pending, policy)
        changes = self._ledger.update(snapshot.nodes)
        kinds = self._index.learn(queue)  # before nodes come: they are put where they belong at once
        self._index.update(*changes)
        return self._answer(snapshot, policy, queue, kinds)

    def _forget(self) -> None:
        self._ledger = Ledger(Shapes())
        self._index = Index()

    def _answer(self, snapshot: Snapshot, policy: Policy, queue: Sequence[PodInfo], kinds: Sequence[int]) -> Plan:
        ledger, index = self._ledger, self._index
        mode = ledger.begin()
        company = company_of(snapshot, queue, repelled=bool(ledger.repelling))
        kept = keep_assignments(snapshot, queue, ledger, company)
        if kept:
            left = [number for number, pod in enumerate(queue) if pod.key not in kept]
            rest, kinds = [queue[number] for number in left], [kinds[number] for number in left]
        else:
            rest = list(queue)
        seeker = Seeker(ledger, index, company, avoided(snapshot), _least(rest), mode)

        def may_keep(pod: PodInfo) -> bool:
            old = snapshot.now - pod.created >= policy.reserve_after
            return old and ledger.is_big(pod.demand) and not pod.affinity  # room is not what such a pod lacks first

        def keep(pod: PodInfo, kind: int) -> KeptWindow | None:
            return keep_window(pod, kind, ledger, seeker.avoided(pod.key))

        batch = Batch(
            rest,
            kinds,
            ledger=ledger,
            index=index,
            seeker=seeker,
            company=company,
            may_keep=may_keep,
            keep_window=keep,
        )
        attempt = batch.serve()
        given = {rest[pod].key: _assignment(rest[pod], *found) for pod, found in attempt.given.items()}
        explainer = Explainer(ledger, index, seeker, [*kept.values(), *given.values()], _window(rest, attempt))
        return Plan(
            placements=_placements(queue, kept, given),
            changes=ledger.changes(),
            waiting=tuple(explainer.why(rest[pod], kinds[pod]) for pod in attempt.refused),
            windows=tuple(_windows(rest, attempt)),
        )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Nearly all that a plan makes lives until it is made: looking for garbage meanwhile is time lost."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def in_order(pending: Iterable[PodInfo], policy: Policy) -> list[PodInfo]:
    """The pods a plan answers, the first served first: by priority, then age, then key."""
    answered: dict[PodKey, PodInfo] = {}
    for pod in pending:
        theirs = pod.scheduler_name not in policy.scheduler_names
        if pod.demand and not (pod.gated or pod.node_name or pod.finished or pod.terminating or theirs):
            before = answered.get(pod.key)
            if before is None or repr(pod) < repr(before):  # listed twice: the same one whatever the order
                answered[pod.key] = pod
    return sorted(
        answered.values(),
        key=lambda each: (-each.priority, each.created, each.key.namespace, each.key.name, each.key.uid),
    )


def _least(pods: Sequence[PodInfo]) -> PodInfo | None:
    """A pod that needs no more of anything, slices apart, than any of these."""
    if not pods:
        return None
    first, *rest = [dict(others) for others in {pod.others for pod in pods}]
    least = {name: min([count, *(each.get(name, 0) for each in rest)]) for name, count in first.items()}
    return PodInfo(PodKey("", ""), requests={name: count for name, count in least.items() if count})


def _assignment(pod: PodInfo, node: NodeState, picks: Picks) -> Assignment:
    slices = tuple(
        [SliceChoice(gpu.bus, option.cut.placement, "reuse" if option.reuse else "create") for gpu, option in picks]
    )
    return Assignment(pod.key, node.name, slices)


def _placements(
    queue: Sequence[PodInfo], kept: dict[PodKey, Assignment], given: dict[PodKey, Assignment]
) -> tuple[Assignment, ...]:
    both = {**kept, **given} if kept else given
    return tuple(both[pod.key] for pod in queue if pod.key in both)


def _windows(pods: Sequence[PodInfo], attempt: Attempt) -> list[Window]:
    if attempt.window is None:
        return []
    pod, window = attempt.window
    return [
        Window(
            pods[pod].key,
            window.node.name,
            tuple((hold.gpu.bus, hold.cut.placement) for hold in window.holds),
            tuple((hold.gpu.bus, each) for hold in window.holds for each in sorted(hold.in_the_way)),
        )
    ]


def _window(pods: Sequence[PodInfo], attempt: Attempt) -> tuple[PodInfo, KeptWindow] | None:
    return None if attempt.window is None else (pods[attempt.window[0]], attempt.window[1])
