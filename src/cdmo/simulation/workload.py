"""Pods that arrive, and how long each runs: values, and the generator of the standard mixes.

The mixes give weights to six classes of size, those of the 8-slot family: 1g, 1g with the memory of two slots, 2g,
3g, 4g and the whole card. On any other card a class stands for the smallest plain profile that gives at least the
same share of the card's memory and of its compute slices: on an A30 the six become 1g.6gb twice, 2g.12gb twice and
4g.24gb twice. A cluster of several models draws the model first, in proportion to its memory slots.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from cdmo.errors import BadSettings
from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import PodKey
from cdmo.model.profile import GpuModel, Profile

Uniform = Callable[[], float]  # the next random number, 0 <= number < 1

# Shares of the card: memory slots of 8, compute slices of 7.
_CLASSES = ((1 / 8, 1 / 7), (2 / 8, 1 / 7), (2 / 8, 2 / 7), (4 / 8, 3 / 7), (4 / 8, 4 / 7), (1.0, 1.0))
_NEARLY = 1e-9  # shares are compared as floats

MIXES: Mapping[str, tuple[float, ...]] = {
    "uniform": (1 / 6,) * 6,
    "skew-small": (0.30, 0.25, 0.20, 0.10, 0.10, 0.05),
    "skew-big": (0.05, 0.10, 0.10, 0.20, 0.25, 0.30),
    "bimodal": (0.30, 0.15, 0.05, 0.05, 0.15, 0.30),
    "classic": (0.30, 0.0, 0.25, 0.25, 0.10, 0.10),
}

MAX_ARRIVALS = 10_000_000
MAX_LOAD = 1000.0
LOGNORMAL_SIGMA = 1.5

Demand = tuple[tuple[str, int], ...]  # extended resource and count, as PodInfo.demand


@dataclass(frozen=True, slots=True)
class Job:
    """A pod of the workload. It arrives at `pod.created` and runs for `duration`, both in the workload's unit."""

    pod: PodInfo
    duration: float
    demand: Demand  # the pod's, worked out once


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs in the order in which they arrive.

    steady: arrivals go on at one rate until the last one, so what is measured over time ends there as well.
    """

    jobs: tuple[Job, ...]
    steady: bool = False

    def demand_weights(self) -> dict[str, float]:
        """The share of each extended resource among all slices that the jobs ask for."""
        counts: dict[str, int] = {}
        for job in self.jobs:
            for resource, count in job.demand:
                counts[resource] = counts.get(resource, 0) + count
        total = sum(counts.values())
        return {resource: count / total for resource, count in sorted(counts.items())}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of pod of a mix: it asks for one slice."""

    resource: str
    slots: int
    weight: float  # of all kinds together 1


@dataclass(frozen=True, slots=True)
class MixSettings:
    """A generated workload.

    load: memory slots asked for, as a share of those that exist, were every pod to run. Poisson arrivals.
    loss: run times are exponential, else lognormal with sigma 1.5; their mean is 1 either way.
    """

    mix: str
    load: float
    arrivals: int
    loss: bool

    def __post_init__(self) -> None:
        if self.mix not in MIXES:
            raise BadSettings(f"there is no mix {self.mix!r}", hint=f"the mixes are {', '.join(MIXES)}")
        if not 0 < self.load <= MAX_LOAD:  # also refuses NaN
            raise BadSettings(
                f"a load of {self.load:g} cannot be offered",
                hint=f"give a number above 0, at most {MAX_LOAD:g}: 1.0 asks for exactly what the cluster has",
            )
        if not 1 <= self.arrivals <= MAX_ARRIVALS:
            raise BadSettings(f"{self.arrivals} arrivals cannot be simulated", hint=f"give 1 to {MAX_ARRIVALS}")


def kinds_of(mix: str, capacity: Mapping[GpuModel, int]) -> tuple[Kind, ...]:
    """The kinds of pods of a mix on a cluster; `capacity` has the memory slots of each of its models."""
    total = sum(capacity.values())
    weights: dict[tuple[str, int], float] = {}
    for model, slots in capacity.items():
        for (memory, compute), weight in zip(_CLASSES, MIXES[mix], strict=True):
            profile = profile_of_class(model, memory, compute)
            key = (profile.resource, profile.size)
            weights[key] = weights.get(key, 0.0) + weight * slots / total
    return tuple(Kind(resource, size, weight) for (resource, size), weight in weights.items() if weight)


def profile_of_class(model: GpuModel, memory: float, compute: float) -> Profile:
    """The smallest plain profile that gives these shares of a card's memory and compute slices."""
    enough = [
        each
        for each in model.profiles
        if "+" not in each.name
        and "-" not in each.name
        and each.size / model.memory_slots >= memory - _NEARLY
        and each.compute_slices / model.compute_slices >= compute - _NEARLY
    ]
    if not enough:
        raise BadSettings(
            f"{model.product} has no profile of {memory:.0%} of its memory and {compute:.0%} of its compute slices",
            hint="give the workload as --trace, or another cluster",
        )
    return min(enough, key=lambda each: (each.size, each.compute_slices, each.id))


def generate(settings: MixSettings, capacity: Mapping[GpuModel, int], uniform: Uniform) -> Workload:
    """Pods `mix/pod-1` … of a standard mix at a load. The same numbers from `uniform` make the same workload."""
    kinds = kinds_of(settings.mix, capacity)
    bounds = list(accumulate(each.weight for each in kinds))
    mean_slots = sum(each.weight * each.slots for each in kinds)
    rate = settings.load * sum(capacity.values()) / mean_slots  # pods a mean run time
    run_time = _exponential if settings.loss else _lognormal
    jobs: list[Job] = []
    now = 0.0
    for number in range(1, settings.arrivals + 1):
        now += _exponential(uniform) / rate
        kind = kinds[min(bisect(bounds, uniform() * bounds[-1]), len(kinds) - 1)]
        pod = arriving(simulated_key("mix", f"pod-{number}"), now, {kind.resource: 1})
        jobs.append(Job(pod, run_time(uniform), pod.demand))
    return Workload(tuple(jobs), steady=True)


def simulated_key(namespace: str, name: str) -> PodKey:
    """The key of a simulated pod. Its uid is nobody's in a cluster, so that it is never taken for a pod there."""
    return PodKey(namespace, name, f"simulated-{namespace}/{name}")


def arriving(key: PodKey, at: float, requests: Mapping[str, int], priority: int = 0) -> PodInfo:
    """A pod as the controller meets it: the scheduler has tried it already."""
    return PodInfo(key=key, created=at, priority=priority, unschedulable=True, requests=requests)


def _exponential(uniform: Uniform) -> float:
    return -math.log(1.0 - uniform())


def _lognormal(uniform: Uniform) -> float:
    # Box and Muller's transform: one standard normal number out of two uniform ones.
    normal = math.sqrt(2.0 * _exponential(uniform)) * math.cos(2.0 * math.pi * uniform())
    return math.exp(LOGNORMAL_SIGMA * normal - LOGNORMAL_SIGMA**2 / 2)
