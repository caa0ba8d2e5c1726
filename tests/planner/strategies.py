"""Random snapshots: cards cut and used at random, former plans that may be nonsense by now, pods of every kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypedDict, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from cdmo.model.cluster import HostPort, PodInfo, Requirement, SelectorTerm, Taint, Toleration
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.snapshot import Assignment, Host, MigNodeView, SliceChoice, Snapshot
from cdmo.planner.placement import EMPTY, Layout, table_of
from tests.builders import (
    BROKEN,
    BUS,
    CARDS,
    IDLE,
    IN_USE,
    NOW,
    UNHEALTHY,
    Card,
    PodParts,
    card,
    gpu_of,
    host,
    key,
    node,
    pod,
    snapshot,
    written,
)

_T = TypeVar("_T")


class NodeParts(TypedDict, total=False):
    """What may be wrong with a node."""

    managed: bool
    alive: bool


NODE_NAMES = ("gpu-1", "gpu-2", "gpu-3")
POD_NAMES = ("a", "b", "c", "d", "e")
BOUND_NAMES = ("x", "y", "z")
MODELS = (("h100",),) * 3 + (("a100",), ("a30",), ("rtx_pro_6000",), ("h100", "a30"), ("a100", "rtx_pro_6000"))

_UNWELL: tuple[NodeParts, ...] = ({}, {}, {}, {}, {}, {}, {"managed": False}, {"alive": False})
_GONE = sorted(table_of(card("h100")).cuts)  # places that were planned for a pod which is there no more
_WELL = ("",) * 15
_STATES = (IDLE, IDLE, IDLE, IN_USE, BROKEN, UNHEALTHY, "ml/x", "ml/y")
_TOLERATION = Toleration("dedicated", "Exists")
_WEB = (Requirement("app", "In", ("web",)),)
_ZONES = st.sampled_from(("a", "b"))
_APPS = st.sampled_from(((("app", "web"),), (("app", "web"),), (("app", "db"),), ()))
_OLD = NOW - 1_000  # seconds: longer ago than any policy here lets a pod wait without a window


def examples(most: int) -> settings:
    """Settings for so many examples: how fast each is on a busy machine is not what tests of plans are about."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    return settings(max_examples=most, deadline=None, phases=phases, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def layouts(draw: st.DrawFn, model: str) -> Layout:
    """A legal layout of a card, from empty to full."""
    table = table_of(card(model))
    layout = EMPTY
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 2, 3, 4, 7)))):
        rest = sorted(table.addable(layout))
        if rest:
            layout |= {draw(st.sampled_from(rest))}
    return layout


@st.composite
def cut_cards(draw: st.DrawFn, model: str, *, with_past: bool = True) -> Card:
    """A card with slices in every state; `with_past`: something else may have been asked of it, or it is unwell."""
    slices = {written(each, model): draw(st.sampled_from(_STATES)) for each in sorted(draw(layouts(model)))}
    if not with_past:
        return gpu_of(model, slices)
    desired = None
    if draw(st.integers(0, 2)) == 0:
        other = draw(layouts(model))
        kept = [text for text in slices if draw(st.booleans())]
        desired = dict.fromkeys([*kept, *(written(each, model) for each in sorted(other))])
    fault = draw(st.sampled_from((*_WELL, "mode", "lost")))
    if fault == "mode":
        return gpu_of(model, slices, desired, mig_mode=MigMode.DISABLED)
    return gpu_of(model, slices, desired, problem=fault)


def demands(models: tuple[str, ...] = CARDS, most: int = 3) -> st.SearchStrategy[dict[str, int]]:
    """One slice, nearly always; else up to two profiles of these cards, each up to `most` times."""
    names = st.sampled_from(sorted({profile.name for model in models for profile in card(model).profiles}))
    one = names.map(lambda name: {name: 1})
    several = st.dictionaries(names, st.integers(1, most), min_size=1, max_size=2)
    return st.one_of(one, one, several)


@st.composite
def views(draw: st.DrawFn, name: str, models: tuple[str, ...]) -> MigNodeView:
    """A node with up to three cards, sometimes tainted, full, silent or not managed."""
    gpus = [draw(cut_cards(draw(st.sampled_from(models)))) for _ in range(draw(st.sampled_from((1, 1, 2, 2, 3, 0))))]
    unwell = draw(st.sampled_from(_UNWELL))
    offered = sorted({profile.name for each in gpus for profile in each.model.profiles})
    beyond = draw(st.sampled_from(offered)) if offered and draw(st.integers(0, 7)) == 0 else ""
    return node(
        name,
        gpus,
        out_of_reach={beyond: draw(st.integers(1, 2))} if beyond else {},
        labels={"host": name, **draw(st.sampled_from(({"zone": "a"}, {"zone": "a"}, {"zone": "b"}, {})))},
        taints=draw(st.sampled_from(((), (), (), (Taint("dedicated", "", "NoSchedule"),)))),
        allocatable={"cpu": draw(st.sampled_from((64_000, 64_000, 2_500)))},
        **unwell,
    )


@st.composite
def rules(draw: st.DrawFn, *, about_others: bool = True) -> PodParts:
    """What a pod needs of a node besides slices: nothing, nearly always; else one rule of each sort at most."""
    parts: PodParts = {"labels": draw(_APPS)}
    if draw(st.integers(0, 4)) == 0:
        parts["host_ports"] = (HostPort(draw(st.sampled_from((8080, 9090)))),)
    if about_others:
        domain = draw(st.sampled_from(("zone", "host")))
        sort = draw(st.sampled_from(("none",) * 4 + ("spread", "spread", "together", "apart")))
        if sort == "spread":
            parts["spread"] = (SpreadRule(draw(st.integers(1, 2)), domain, _WEB),)
        elif sort == "together":
            parts["affinity"] = (PodTerm(domain, _WEB, ("ml",)),)
        elif sort == "apart":
            parts["anti_affinity"] = (PodTerm(domain, _WEB, ("ml",)),)
    return parts


@st.composite
def pending_pods(draw: st.DrawFn, name: str, models: tuple[str, ...], *, about_others: bool = True) -> PodInfo:
    """A pod that waits: for a short while, or for longer than a policy's `reserve_after`."""
    in_zone = (SelectorTerm(labels=(Requirement("zone", "In", (draw(_ZONES),)),)),)
    return pod(
        name,
        draw(demands(models)),
        priority=draw(st.integers(0, 1)),
        created=draw(st.sampled_from((_OLD, _OLD + 1, NOW - 2, NOW - 1))),
        tolerations=draw(st.sampled_from(((), (_TOLERATION,)))),
        selector=draw(st.sampled_from(({},) * 7 + ({"zone": "a"},))),
        node_affinity=draw(st.sampled_from((None,) * 7 + (in_zone,))),
        **draw(rules(about_others=about_others)),
    )


@st.composite
def former_assignments(draw: st.DrawFn, waiting: PodInfo, models: tuple[str, ...]) -> Assignment:
    """What a plan may have given to a pod some time ago: what it asks for, or something else."""
    wanted = [name for name, count in waiting.demand for _ in range(count)]
    if draw(st.integers(0, 5)) == 0:
        wanted = wanted[1:] or wanted * 2
    slices = []
    for name in wanted:
        table = table_of(card(draw(st.sampled_from(models))))
        cuts: list[Placement] = sorted(each for each in table.cuts if table.resource_at(each) == name)
        if cuts:
            slices.append(SliceChoice(draw(st.sampled_from(BUS[:2])), draw(st.sampled_from(cuts)), "create"))
    return Assignment(waiting.key, draw(st.sampled_from(NODE_NAMES)), tuple(slices))


@st.composite
def bound_pods(draw: st.DrawFn, name: str, models: tuple[str, ...], on: str) -> PodInfo:
    """A pod that runs, or is about to, and may not have taken its slices yet."""
    return pod(name, draw(demands(models, 2)), on=on, created=draw(st.sampled_from((_OLD, NOW - 5))), **draw(rules()))


@st.composite
def strangers(draw: st.DrawFn) -> list[Host]:
    """Nodes that CDMO does not manage, with pods that the rules of others may be about."""
    found = []
    for number in range(draw(st.integers(0, 2))):
        name = f"web-{number}"
        pods = [pod(f"web-{number}-{each}", on=name, labels=draw(_APPS)) for each in range(draw(st.integers(0, 2)))]
        found.append(host(name, pods, host=name, zone=draw(_ZONES)))
    return found


@st.composite
def snapshots(draw: st.DrawFn, *, about_others: bool = True) -> Snapshot:
    """A whole question. Pods x and y hold slices here and there; bound pods may not have taken theirs yet.

    about_others: some of the waiting pods have rules about other pods.
    """
    models = draw(st.sampled_from(MODELS))
    nodes = [draw(views(name, models)) for name in NODE_NAMES[: draw(st.integers(1, 3))]]
    models = tuple(name for name in models if any(card(name) in view.models for view in nodes)) or models
    bound = [
        draw(bound_pods(name, models, draw(st.sampled_from(NODE_NAMES))))
        for name in BOUND_NAMES[: draw(st.integers(0, 3))]
    ]
    waiting = POD_NAMES[: draw(st.integers(1, len(POD_NAMES)))]
    pending = [draw(pending_pods(name, models, about_others=about_others)) for name in waiting]
    assignments = [draw(former_assignments(each, models)) for each in pending if draw(st.integers(0, 3)) == 0]
    gone = [Assignment(key("gone"), "gpu-1", (SliceChoice(BUS[0], draw(st.sampled_from(_GONE)), "create"),))]
    avoid = [(draw(st.sampled_from(POD_NAMES)), draw(st.sampled_from(NODE_NAMES))) for _ in range(2)]
    return snapshot(
        nodes,
        pending,
        bound,
        assignments + gone[: draw(st.integers(0, 1))],
        avoid[: draw(st.integers(0, 2))],
        others=draw(strangers()),
    )


@st.composite
def shuffled(draw: st.DrawFn, question: Snapshot) -> Snapshot:
    """The same question with every tuple, mapping and set in another order."""
    nodes = tuple(
        replace(
            each,
            node=replace(each.node, labels=dict(_mixed(draw, each.node.labels.items()))),
            gpus=tuple(replace(gpu, slices=_mixed(draw, gpu.slices)) for gpu in _mixed(draw, each.gpus)),
            desired={bus: _mixed(draw, layout) for bus, layout in _mixed(draw, each.desired.items())},
            pods=_mixed(draw, each.pods),
        )
        for each in _mixed(draw, question.nodes)
    )
    pending = tuple(
        replace(each, requests=dict(_mixed(draw, each.requests.items()))) for each in _mixed(draw, question.pending)
    )
    return replace(
        question,
        nodes=nodes,
        pending=pending,
        assignments=_mixed(draw, question.assignments),
        others=tuple(replace(each, pods=_mixed(draw, each.pods)) for each in _mixed(draw, question.others)),
        avoid=frozenset(_mixed(draw, question.avoid)),
    )


def _mixed(draw: st.DrawFn, items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(draw(st.permutations(list(items))))
