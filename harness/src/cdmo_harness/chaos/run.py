"""One run of chaos: cluster, load, faults, aftermath, judgement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from cdmo_harness.binaries import Binaries
from cdmo_harness.chaos import aftermath, judge
from cdmo_harness.chaos.carry_out import Faults
from cdmo_harness.chaos.judge import SliceWatch, Violation
from cdmo_harness.chaos.load import Load
from cdmo_harness.chaos.progress import Progress
from cdmo_harness.chaos.schedule import FaultKind, Planned, Where, draw
from cdmo_harness.chaos.stage import CONTROLLERS, Stage, running, until
from cdmo_harness.chaos.summary import Found, MemoryRow, Summary
from cdmo_harness.local_cluster import LocalCluster, NodeSpec

H100, A100, A30 = "H100-SXM5-80GB", "A100-SXM4-80GB", "A30-24GB"
NODES = (
    NodeSpec("gpu-1", (H100, H100)),
    NodeSpec("gpu-2", (A100, A100)),
    NodeSpec("gpu-3", (A30,)),
    NodeSpec("gpu-4", (H100,)),
)
TARGETS = {
    Where.NODE: tuple(each.name for each in NODES),
    Where.CONTROLLER: CONTROLLERS,
    Where.CLUSTER: ("cluster",),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to do. `drain`, `rest` and `fill` are limits, in seconds."""

    seed: int
    minutes: float
    pods: int  # at most
    kinds: Sequence[FaultKind]
    waiting: int = 32  # pods that are kept waiting: more than fit, so that the nodes are cut anew all the time
    drain: float = 300.0  # a pod that was tried in vain is left alone for a minute and more
    rest: float = 120.0
    fill: float = 120.0
    careless: bool = False  # agents that the judge has to convict: for its test

    @property
    def planned(self) -> tuple[Planned, ...]:
        """The schedule."""
        return draw(self.seed, self.minutes * 60, self.kinds, TARGETS)


async def run(
    binaries: Binaries,
    options: Options,
    progress: Progress,
    on_violation: Callable[[LocalCluster], None],
    *,
    keep: bool,
) -> Summary:
    """From nothing to the summary and back to nothing. `on_violation` may look at the cluster while it is there."""
    cluster = LocalCluster(binaries, nodes=NODES, keep_files=keep)
    progress.say("starting a control plane, 4 nodes with 6 GPUs, 4 agents and 2 controllers")
    async with running(cluster, options.seed, careless=options.careless) as stage:
        summary = await _play(stage, options, progress)
        if not summary.ok:
            on_violation(cluster)
        progress.say("stopping")
    return summary


async def _play(stage: Stage, options: Options, progress: Progress) -> Summary:
    began = time.monotonic()
    load = Load(stage, Random(f"{options.seed}/pods"), options.waiting, options.pods)
    faults = Faults(stage, options.planned, options.kinds, options.minutes * 60)
    watch = SliceWatch(stage)

    def look() -> str:
        return _line(load, faults, watch, stage)

    found: list[Violation] = []
    async with _background(watch.run(), load.run()):
        progress.say(f"{len(faults.planned)} faults in {options.minutes:g} min, seed {options.seed}")
        async with progress.shown(look, faults.news):
            await _chaos(load, faults, options)
        load.stopped = True
        progress.say("no more faults: every pod must end, every node come to rest")
        async with progress.shown(look, []):
            found += await aftermath.pods_end(stage, load, options.drain)
        progress.say("every slot of every GPU must serve a pod")
        filled, missing = await aftermath.every_slot_serves(stage, options.fill)
        found += missing
        # Only now: rubbish that a person wrote stays in a MigNode until the controller has a reason to write it anew.
        found += await aftermath.nodes_rest(stage, options.rest)
    refused, lost = judge.refused(load.failures, stage.windows)
    found += [*refused, *watch.found.values(), *await asyncio.to_thread(judge.harm, stage)]
    found += [*aftermath.memory(stage.supervisor.roles), *aftermath.tracebacks(stage)]
    return await _summary(stage, options, load, faults, time.monotonic() - began, found, lost, filled)


async def _chaos(load: Load, faults: Faults, options: Options) -> None:
    """Until the time is over, or the pods are."""

    async def out_of_pods() -> None:
        await until(lambda: load.submitted >= options.pods and not load.stage.open, limit=options.minutes * 60)

    inflicting = asyncio.create_task(faults.run(), name="faults")
    timer = asyncio.create_task(asyncio.sleep(options.minutes * 60), name="time")
    emptied = asyncio.create_task(out_of_pods(), name="pods")
    try:
        done, _ = await asyncio.wait({timer, emptied, inflicting}, return_when=asyncio.FIRST_COMPLETED)
        if inflicting in done:
            inflicting.result()  # fewer faults than time; a mistake of the harness ends the run
            await asyncio.wait({timer, emptied}, return_when=asyncio.FIRST_COMPLETED)
        elif timer in done:
            await inflicting  # what has begun ends
    finally:
        for task in (inflicting, timer, emptied):
            task.cancel()
        await asyncio.gather(inflicting, timer, emptied, return_exceptions=True)


@asynccontextmanager
async def _background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()  # it should not have ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _line(load: Load, faults: Faults, watch: SliceWatch, stage: Stage) -> str:
    bad = len(watch.found) + len(judge.refused(load.failures, stage.windows)[0])
    now = ", ".join(sorted({each.kind for each in faults.now})) or "none"
    return (
        f"{load.ended} pods ended, {load.running} run, {load.pending} wait; "
        f"{repartitions(stage)} repartitions; {bad} violations; faults {faults.begun}, now: {now}"
    )


def repartitions(stage: Stage) -> int:
    """Changes that the agents have reported."""
    return sum(_changes(stage).values())


def _changes(stage: Stage) -> dict[str, int]:
    return {
        name: last.count
        for name, mignode in sorted(stage.view.mignodes.items())
        if (last := mignode.status.last_repartition) is not None
    }


async def _summary(
    stage: Stage,
    options: Options,
    load: Load,
    faults: Faults,
    seconds: float,
    found: Sequence[Violation],
    lost: dict[str, int],
    filled: int,
) -> Summary:
    counters = [node.driver.counters() for node in stage.cluster.nodes.values()]
    return Summary(
        seed=options.seed,
        minutes=options.minutes,
        seconds=round(seconds, 1),
        ok=not found,
        faults=faults.rows(),
        blows=dict(sorted((await asyncio.to_thread(stage.proxy.counts)).items())),
        pods={"Submitted": load.submitted, **dict(sorted(load.endings.items()))},
        lost_with_a_fault=lost,
        filled=filled,
        repartitions=_changes(stage),
        instances_created=sum(each.gpu_instances_created for each in counters),
        instances_destroyed=sum(each.gpu_instances_destroyed for each in counters),
        interrupted_changes=stage.interrupted_changes,
        kubelets_restarted=stage.kubelets_healed,
        memory=tuple(
            MemoryRow(
                role.name,
                round(role.first_bytes / 1e6, 1),
                round(role.last_bytes / 1e6, 1),
                round(role.most_bytes / 1e6, 1),
                {str(status): count for status, count in sorted(role.ends.items())},
                dict(role.last_words),
            )
            for role in stage.supervisor.roles.values()
        ),
        violations=tuple(Found(each.what, each.details) for each in found),
    )
