"""What is decided from objects that can be read and make no sense: steps of a node, views, plans, whole rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from structlog.testing import capture_logs

from cdmo.agent.guard import Evidence, GpuWitness, Witness, refusals
from cdmo.agent.steps import Action, SeenGpu, SeenInstance, Steps, steps_for
from cdmo.api.convert import layouts_from_spec, layouts_to_spec, withheld_from_spec
from cdmo.api.v1alpha1 import MigNode
from cdmo.api.view import view_of
from cdmo.cli.status import rows
from cdmo.errors import BadSpec
from cdmo.kube.mignode_api import mig_node
from cdmo.kube.slim import node_info, pod_info
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import MigMode, Placement, PodKey
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Host, MigNodeView, Snapshot
from cdmo.planner import Planner
from cdmo.planner.check import violations
from tests.builders import BUS, NOW, at, card
from tests.controller.bench import Bench
from tests.fuzz import seeds
from tests.fuzz.mutate import Json
from tests.fuzz.target import Run, Target

T = TypeVar("T")

# A node as it is: an idle slice, one that a pod holds, one with a process on it, one the controller has not seen, and
# one that is broken, on the first GPU; a second GPU with one idle slice.
_HELD, _BUSY, _UNSEEN, _IDLE, _BROKEN = (
    at(each) for each in ("1g.10gb@0", "1g.10gb@1", "1g.10gb@2", "1g.10gb@3", "3g.40gb@4")
)
_REVISION = 7
SEEN = (
    SeenGpu(
        BUS[0],
        MigMode.ENABLED,
        card("h100"),
        (
            SeenInstance(_HELD, 1),
            SeenInstance(_BUSY, 1),
            SeenInstance(_UNSEEN, 2**62),
            SeenInstance(_IDLE, 1),
            SeenInstance(_BROKEN, 1, broken=True),
        ),
    ),
    SeenGpu(BUS[1], MigMode.ENABLED, card("h100"), (SeenInstance(_IDLE, 1),)),
)
_PROTECTED = {(BUS[0], each) for each in (_HELD, _BUSY, _UNSEEN)}
EVIDENCE = Evidence(
    slices={
        (gpu.pci_bus_id, (each.placement.profile_id, each.placement.start)): Witness(
            f"nvidia.com/mig-{each.placement.profile_id}",
            f"MIG-{gpu.pci_bus_id}-{each.placement.start}",
            (4711,) if (gpu.pci_bus_id, each.placement) == (BUS[0], _BUSY) else (),
        )
        for gpu in SEEN
        for each in gpu.instances
    },
    gpus={gpu.pci_bus_id: GpuWitness(f"GPU-{gpu.pci_bus_id}") for gpu in SEEN},
    holders={f"MIG-{BUS[0]}-{_HELD.start}": PodKey("ml", "old")},
    bound=(),
    hidden={},
)


def _guarded(steps: Steps) -> Steps:
    for bus, reason in refusals(steps.steps, EVIDENCE).items():
        steps = steps.without_gpu(bus, reason)
    return steps


def _spec(content: bytes) -> bool:
    """Nothing that is in use, or that the controller had not seen, is destroyed, whatever a spec says; and no step
    needs what is not there."""
    try:
        node = mig_node(content)
    except (msgspec.MsgspecError, ValueError):
        return False
    try:
        layouts = layouts_from_spec(node)
        withheld = withheld_from_spec(node)
        steps = steps_for(layouts, SEEN, min(node.spec.observed_revision, 2**61))
    except BadSpec as error:
        assert str(error).isprintable() and error.hint.isprintable()
        return False
    assert {each.pci_bus_id for each in layouts_to_spec(layouts, withheld)} == layouts.keys()
    _check_steps(_guarded(steps))
    return True


def _check_steps(steps: Steps) -> None:
    there: dict[str, set[Placement]] = {each.pci_bus_id: {one.placement for one in each.instances} for each in SEEN}
    sizes = {each.id: each.size for each in card("h100").profiles}
    for step in steps.steps:
        placement = step.placement
        assert placement is not None and step.gpu in there
        if step.action is Action.DESTROY:
            assert (step.gpu, placement) not in _PROTECTED, f"{step} must never be"
            there[step.gpu].remove(placement)
        else:
            mine = range(placement.start, placement.start + sizes[placement.profile_id])
            for other in there[step.gpu]:
                theirs = range(other.start, other.start + sizes[other.profile_id])
                assert not set(mine) & set(theirs), f"{step} overlaps {other}"
            there[step.gpu].add(placement)


def _specs() -> list[Json]:
    found = []
    for layout in (
        ["1g.10gb@0", "1g.10gb@1", "1g.10gb@2", "3g.40gb@4"],
        ["7g.80gb@0"],
        ["1g.10gb@0", "1g.10gb@6"],
        [],
    ):
        placed = [{"profileId": at(each).profile_id, "start": at(each).start} for each in layout]
        first = {"pciBusId": BUS[0], "layout": placed, "withheld": placed[:1]}
        second = {"pciBusId": BUS[1], "layout": placed[1:]}
        spec = {"mode": "Managed", "observedRevision": _REVISION, "gpus": [first, second]}
        found.append({"metadata": {"name": "gpu-1", "generation": 3}, "spec": spec})
    return found


def _readable(items: Any, convert: Callable[[bytes], T]) -> list[T]:
    """What a mirror would hold of these objects."""
    found = []
    for each in items if isinstance(items, list) else ():
        try:
            found.append(convert(bytes(each)))
        except (msgspec.MsgspecError, ValueError):
            continue
    return found


class _Cluster(msgspec.Struct):
    nodes: list[msgspec.Raw] | None = None
    mignodes: list[msgspec.Raw] | None = None
    pods: list[msgspec.Raw] | None = None


_Objects = tuple[list[NodeInfo], list[MigNode], list[PodInfo]]


def _objects(content: bytes) -> _Objects | None:
    try:
        whole = msgspec.json.decode(content, type=_Cluster)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    pods = _readable(whole.pods, pod_info)
    return _readable(whole.nodes, node_info), _readable(whole.mignodes, mig_node), pods


def _planned(planner: Planner, content: bytes) -> bool:
    """A plan for every snapshot, and one that breaks no rule; the same planner goes from one to the next."""
    found = _objects(content)
    if found is None:
        return False
    nodes, mignodes, pods = found
    by_name = {each.metadata.name: each for each in mignodes}
    views: list[MigNodeView] = []
    hosts: list[Host] = []
    for node in nodes:
        bound = [each for each in pods if each.node_name == node.name and not each.finished]
        if node.name in by_name:
            views.append(view_of(node, by_name[node.name], True, bound))
        else:
            hosts.append(Host(node, tuple(bound)))
    pending = tuple(each for each in pods if not each.node_name)
    snapshot = Snapshot(NOW, tuple(views), pending, tuple(hosts))
    plan = planner.plan(snapshot, Policy(reserve_after=10.0))
    assert violations(snapshot, plan) == ()
    for table in rows(mignodes):
        assert all(isinstance(each, str) for each in table)
    return bool(plan.placements or plan.waiting)


@contextmanager
def _planning(folder: Path) -> Iterator[Run]:
    planner = Planner()
    yield lambda content: _planned(planner, content)


async def _round(bench: Bench, content: bytes) -> bool:
    """Two rounds of a controller whose mirrors show this, one after the other; nothing ends it."""
    found = _objects(content)
    if found is None:
        return False
    nodes, mignodes, pods = found
    bench.nodes = {each.name: each for each in nodes}
    bench.api.nodes = {each.metadata.name: each for each in mignodes if each.metadata.name}
    bench.pods = {f"{each.key.namespace}/{each.key.name}": each for each in pods}
    with capture_logs() as logged:
        await bench.loop.round()
        await bench.clock.advance(31.0)
        await bench.loop.round()
    # Such a plan is not published: one node that lies would keep all others from theirs.
    assert not [each for each in logged if "violations" in each]
    return bool(bench.api.calls)


@contextmanager
def _controlling(folder: Path) -> Iterator[Run]:
    with asyncio.Runner() as runner:

        async def one(content: bytes) -> bool:
            bench = Bench()
            bench.loop._planner = Planner()  # the bench's own also carries plans out, on the cards it knows
            return await _round(bench, content)

        yield lambda content: runner.get_loop().run_until_complete(one(content))


def _always(run: Run) -> Callable[[Path], AbstractContextManager[Run]]:
    @contextmanager
    def prepare(folder: Path) -> Iterator[Run]:
        yield run

    return prepare


def _clusters() -> list[Json]:
    whole = {"nodes": seeds.nodes(), "mignodes": seeds.mignodes()[:2], "pods": seeds.pods()}
    waiting = [each for each in seeds.pods() if "nodeName" not in each["spec"]]
    small = {"nodes": seeds.nodes()[:1], "mignodes": seeds.mignodes()[2:], "pods": waiting}
    return [whole, small, {**small, "pods": waiting[1:2]}]


TARGETS = (
    Target("spec", 12, _specs, _always(_spec)),
    Target("planner", 14, _clusters, _planning),
    Target("controller", 8, _clusters, _controlling),
)
