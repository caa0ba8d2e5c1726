"""Virtual time: at each instant pods end, pods arrive, and the planner is asked once; again only for those who stand
behind pods that it sent away.

Ends come before arrivals at the same instant, so a slot is free for who comes as another leaves. Every pod is placed
by the planner and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.plan import Plan, Waiting
from cdmo.model.policy import Policy
from cdmo.model.reasons import WaitingCode
from cdmo.model.snapshot import Snapshot
from cdmo.simulation.backlog import Backlog
from cdmo.simulation.timeline import Point, State, Timeline
from cdmo.simulation.workload import Job, Workload
from cdmo.simulation.world import World

# Nodes, cards and labels never change here: a pod that waits for one of these reasons waits for ever.
HOPELESS = frozenset(
    {
        WaitingCode.NO_SUCH_PROFILE,
        WaitingCode.NEVER_FITS,
        WaitingCode.ABSURD_COUNT,
        WaitingCode.NO_ELIGIBLE_NODE,
        WaitingCode.NODE_NOT_READY,
    }
)


class Planning(Protocol):
    """What a simulation asks of a planner."""

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """A place or a reason for every pending pod."""
        ...


Progress = Callable[[int], None]  # told how many pods have arrived


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: when it started, or why it never did."""

    job: Job
    started: float | None = None
    why: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How a simulation went.

    outcomes: one a job, in the order of arrival. counted: from which of them on figures are made.
    mean: over the window that the counted jobs span. started, created, destroyed: since the first counted arrival.
    """

    outcomes: tuple[Outcome, ...]
    counted: int
    ended: float  # virtual time of the last event
    mean: Point | None
    points: tuple[Point, ...]
    longest_queue: int
    started: int
    created: int
    destroyed: int


class Simulation:
    """One run. `world` is changed by it."""

    def __init__(
        self,
        world: World,
        around: Snapshot,
        planner: Planning,
        policy: Policy,
        *,
        loss: bool,
        progress: Progress,
    ) -> None:
        """around: what else every plan looks at, Nodes that CDMO does not manage and namespaces.

        loss: a pod that cannot be placed when it arrives is gone; else it waits and is planned at every end.
        """
        self._world = world
        self._around = around
        self._planner = planner
        self._policy = policy
        self._loss = loss
        self._progress = progress
        self._waiting = Backlog(world.size)
        self._ends: list[tuple[float, int, PodKey]] = []
        self._outcomes: dict[PodKey, Outcome] = {}
        self._begun = 0  # pods started so far: breaks ties among ends
        self._created = self._destroyed = self._started = 0

    def run(self, workload: Workload, warmup: float) -> Course:
        """Simulate a workload of at least one job to its end. The first `warmup` of them, a share, only warm up."""
        jobs = workload.jobs
        counted = min(int(len(jobs) * warmup), len(jobs) - 1)
        first = jobs[counted].pod.created
        timeline = Timeline(jobs[0].pod.created, first, jobs[-1].pod.created if workload.steady else None)
        arrived, now, state = 0, jobs[0].pod.created, self._state()
        while arrived < len(jobs) or self._ends:
            now = self._next_instant(jobs, arrived)
            timeline.hold(state, now)
            self._end(now)
            newcomers = _newcomers(jobs, arrived, now)
            for job in newcomers:
                self._waiting.add(job)
            arrived += len(newcomers)
            again = len(self._waiting) > 0
            while again:  # there may be no later instant at which those who were not shown are looked at
                again = self._plan(now, counts=now >= first)
            state = self._state()
            self._progress(arrived)
        return Course(
            outcomes=tuple(self._outcomes.get(job.pod.key, Outcome(job)) for job in jobs),
            counted=counted,
            ended=now,
            mean=timeline.mean(),
            points=timeline.points(),
            longest_queue=timeline.longest_queue,
            started=self._started,
            created=self._created,
            destroyed=self._destroyed,
        )

    def _next_instant(self, jobs: Sequence[Job], arrived: int) -> float:
        if arrived == len(jobs):
            return self._ends[0][0]
        if not self._ends:
            return jobs[arrived].pod.created
        return min(self._ends[0][0], jobs[arrived].pod.created)

    def _end(self, now: float) -> None:
        ended: list[PodKey] = []
        while self._ends and self._ends[0][0] <= now:
            ended.append(heappop(self._ends)[2])
        self._world.end(ended)

    def _plan(self, now: float, *, counts: bool) -> bool:
        """Whether some were sent away behind whom others stand that the planner was not shown."""
        shown = self._waiting.shown(self._world.free)
        hidden = len(self._waiting) - len(shown)
        pods = {key: job.pod for key, job in shown.items()}
        plan = self._planner.plan(self._question(now, pods.values()), self._policy)
        carried = self._world.apply(plan, pods)
        for assignment in plan.placements:
            job = shown[assignment.pod]
            self._begun += 1
            heappush(self._ends, (now + job.duration, self._begun, assignment.pod))
            self._settle(Outcome(job, started=now))
        sent_away = [each for each in plan.waiting if self._loss or each.code in HOPELESS]
        for waiting in sent_away:
            self._settle(Outcome(shown[waiting.pod], why=waiting))
        if counts:
            self._started += len(plan.placements)
            self._created += carried.created
            self._destroyed += carried.destroyed
        return bool(sent_away and hidden)

    def _question(self, now: float, pending: Iterable[PodInfo]) -> Snapshot:
        return Snapshot(
            now=now,
            nodes=self._world.views,
            pending=tuple(pending),
            others=self._around.others,
            namespaces=self._around.namespaces,
        )

    def _settle(self, outcome: Outcome) -> None:
        self._waiting.remove(outcome.job)
        self._outcomes[outcome.job.pod.key] = outcome

    def _state(self) -> State:
        world = self._world
        return State(world.busy, world.free, world.stranded, len(self._waiting))


def _newcomers(jobs: Sequence[Job], arrived: int, now: float) -> Sequence[Job]:
    last = arrived
    while last < len(jobs) and jobs[last].pod.created <= now:
        last += 1
    return jobs[arrived:last]
