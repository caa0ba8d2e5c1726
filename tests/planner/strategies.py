"""Random snapshots: cards cut and used at random, former plans that may be nonsense by now, pods of every kind."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from cdmo.model.cluster import PodInfo, Taint, Toleration
from cdmo.model.gpu import MigMode, Placement
from cdmo.model.snapshot import Assignment, MigNodeView, SliceChoice, Snapshot
from cdmo.planner.placement import EMPTY, Layout, table_of
from tests.builders import (
    BROKEN,
    BUS,
    CARDS,
    IDLE,
    IN_USE,
    Card,
    card,
    gpu_of,
    key,
    node,
    pod,
    snapshot,
    written,
)

NODE_NAMES = ("gpu-1", "gpu-2", "gpu-3")
POD_NAMES = ("a", "b", "c", "d", "e")
_STATES = (IDLE, IDLE, IDLE, IN_USE, BROKEN, "ml/x", "ml/y")
_TOLERATION = Toleration("dedicated", "Exists")


@st.composite
def layouts(draw: st.DrawFn, model: str) -> Layout:
    """A legal layout of a card, from empty to full."""
    table = table_of(card(model))
    layout = EMPTY
    for _ in range(draw(st.integers(0, 7))):
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
    if draw(st.booleans()):
        other = draw(layouts(model))
        kept = [text for text in slices if draw(st.booleans())]
        desired = dict.fromkeys([*kept, *(written(each, model) for each in sorted(other))])
    mode = draw(st.sampled_from((MigMode.ENABLED,) * 7 + (MigMode.DISABLED,)))
    return gpu_of(model, slices, desired, mig_mode=mode, problem=draw(st.sampled_from(("",) * 7 + ("lost",))))


def demands(models: tuple[str, ...] = CARDS, most: int = 3) -> st.SearchStrategy[dict[str, int]]:
    """Up to two profiles of these cards, each up to `most` times."""
    names = sorted({profile.name for model in models for profile in card(model).profiles})
    return st.dictionaries(st.sampled_from(names), st.integers(1, most), min_size=1, max_size=2)


@st.composite
def views(draw: st.DrawFn, name: str, models: tuple[str, ...]) -> MigNodeView:
    """A node with up to three cards, sometimes tainted, full, silent or not managed."""
    gpus = [draw(cut_cards(draw(st.sampled_from(models)))) for _ in range(draw(st.integers(0, 3)))]
    return node(
        name,
        gpus,
        taints=draw(st.sampled_from(((), (), (Taint("dedicated", "", "NoSchedule"),)))),
        allocatable={"cpu": draw(st.sampled_from((64_000, 64_000, 2_500)))},
        managed=draw(st.sampled_from((True,) * 7 + (False,))),
        alive=draw(st.sampled_from((True,) * 7 + (False,))),
    )


@st.composite
def pending_pods(draw: st.DrawFn, name: str, models: tuple[str, ...]) -> PodInfo:
    """A pod that waits."""
    return pod(
        name,
        draw(demands(models)),
        priority=draw(st.integers(0, 1)),
        created=draw(st.integers(0, 2)),
        tolerations=draw(st.sampled_from(((), (_TOLERATION,)))),
    )


@st.composite
def former_assignments(draw: st.DrawFn, name: str, models: tuple[str, ...]) -> Assignment:
    """What a plan may have given to a pod some time ago."""
    placements: list[Placement] = sorted({each for model in models for each in table_of(card(model)).cuts})
    chosen = draw(st.lists(st.sampled_from(placements), min_size=1, max_size=2))
    slices = tuple(SliceChoice(draw(st.sampled_from(BUS[:3])), each, "create") for each in chosen)
    return Assignment(key(name), draw(st.sampled_from(NODE_NAMES)), slices)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A whole question. Pods x and y hold slices here and there; bound pods may not have taken theirs yet."""
    models = draw(st.sampled_from((("h100",), ("a30",), ("rtx_pro_6000",), ("h100", "a30"))))
    nodes = [draw(views(name, models)) for name in NODE_NAMES[: draw(st.integers(1, 3))]]
    bound = [
        pod(name, draw(demands(models, 2)), on=draw(st.sampled_from(NODE_NAMES)))
        for name in ("x", "y", "z")[: draw(st.integers(0, 3))]
    ]
    waiting = POD_NAMES[: draw(st.integers(0, len(POD_NAMES)))]
    pending = [draw(pending_pods(name, models)) for name in waiting]
    assignments = [draw(former_assignments(name, models)) for name in POD_NAMES if draw(st.booleans())]
    avoid = [(draw(st.sampled_from(POD_NAMES)), draw(st.sampled_from(NODE_NAMES))) for _ in range(2)]
    return snapshot(nodes, pending, bound, assignments, avoid[: draw(st.integers(0, 2))])


@st.composite
def shuffled(draw: st.DrawFn, question: Snapshot) -> Snapshot:
    """The same question with every tuple in another order."""
    nodes = tuple(
        replace(
            each,
            gpus=tuple(
                replace(gpu, slices=tuple(draw(st.permutations(gpu.slices))))
                for gpu in draw(st.permutations(each.gpus))
            ),
            desired=dict(draw(st.permutations(list(each.desired.items())))),
            pods=tuple(draw(st.permutations(each.pods))),
        )
        for each in draw(st.permutations(question.nodes))
    )
    return replace(
        question,
        nodes=nodes,
        pending=tuple(draw(st.permutations(question.pending))),
        assignments=tuple(draw(st.permutations(question.assignments))),
    )
