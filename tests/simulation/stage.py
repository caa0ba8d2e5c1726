"""A small stage for simulations: jobs from a few words, and runs with the real planner.

job("a", "3g.40gb", at=0, runs=10)
played([job(...), ...], nodes=[node("gpu-1", [h100()])], loss=True)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdmo.model.policy import Policy
from cdmo.model.snapshot import MigNodeView, Snapshot
from cdmo.simulation.fragmentation import Stranded
from cdmo.simulation.run import Course, Planning, Simulation
from cdmo.simulation.workload import Job, Workload, arriving, simulated_key
from cdmo.simulation.world import World
from tests.builders import Asks, resource
from tests.planner.expect import Judged


def job(name: str, asks: Asks, *, at: float, runs: float, priority: int = 0) -> Job:
    """A pod sim/NAME that arrives and runs at these virtual times."""
    requests = {resource(profile): count for profile, count in ({asks: 1} if isinstance(asks, str) else asks).items()}
    pod = arriving(simulated_key("sim", name), at, requests, priority)
    return Job(pod, runs, pod.demand)


def workload(jobs: Iterable[Job], *, steady: bool = False) -> Workload:
    """Jobs in the order in which they arrive."""
    return Workload(tuple(sorted(jobs, key=lambda each: (each.pod.created, each.pod.key))), steady)


def world_of(nodes: Iterable[MigNodeView], load: Workload) -> World:
    """A virtual cluster that measures fragmentation by what this workload asks for."""
    return World(nodes, Stranded(load.demand_weights()))


def played(
    jobs: Iterable[Job],
    nodes: Sequence[MigNodeView],
    *,
    loss: bool = False,
    warmup: float = 0.0,
    steady: bool = False,
    reserve_after: float = 1e9,
    planner: Planning | None = None,
) -> Course:
    """The course of a run."""
    load = workload(jobs, steady=steady)
    around = Snapshot(0.0, tuple(nodes), ())
    run = Simulation(
        world_of(nodes, load),
        around,
        planner or Judged(),
        Policy(reserve_after=reserve_after),
        loss=loss,
        progress=lambda arrived: None,
    )
    return run.run(load, warmup)


def starts(course: Course) -> dict[str, float | None]:
    """When each pod started, by its short name; None for those that never did."""
    return {each.job.pod.key.name: each.started for each in course.outcomes}
