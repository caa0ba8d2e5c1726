"""A Node and its MigNode as the planner sees them. Live or read from a file: both come through here."""

from __future__ import annotations

from collections.abc import Iterable

from cdmo.api.convert import Layouts, gpus_from_api, layouts_from_spec, models_from_api
from cdmo.api.v1alpha1 import MigNode, Mode
from cdmo.errors import BadSpec
from cdmo.model.cluster import NodeInfo, PodInfo, labelled
from cdmo.model.reasons import ConditionType, ReadyReason
from cdmo.model.snapshot import MigNodeView


def view_of(node: NodeInfo, mignode: MigNode, alive: bool, bound: Iterable[PodInfo] = ()) -> MigNodeView:
    """One node as the planner sees it, with the unfinished pods that are bound to it."""
    managed = labelled(node) and mignode.spec.mode is Mode.MANAGED
    desired, problem = _desired(mignode)
    return MigNodeView(
        node=node,
        models=models_from_api(mignode.status.models),
        gpus=gpus_from_api(mignode),
        desired=desired,
        managed=managed,
        alive=alive,
        problem=problem or _problem(mignode),
        pods=tuple(bound),
        out_of_reach=_out_of_reach(mignode),
    )


def _out_of_reach(mignode: MigNode) -> dict[str, int]:
    counts: dict[str, int] = {}
    for gpu in mignode.status.gpus:
        held = [each for each in gpu.devices if each.pod is not None and (each.problem or gpu.problem)]
        if held and gpu.model < len(mignode.status.models):
            resources = {each.id: each.resource for each in mignode.status.models[gpu.model].profiles}
            for each in held:
                resource = resources.get(each.profile_id, "")
                counts[resource] = counts.get(resource, 0) + 1
    return counts


def _desired(mignode: MigNode) -> tuple[Layouts, str]:
    try:
        return layouts_from_spec(mignode), ""
    except BadSpec as error:
        return {}, str(error)


def _problem(mignode: MigNode) -> str:
    for each in mignode.status.conditions:
        # A change that failed is planned around: the next status shows what stood in its way.
        # A spec that cannot be carried out is written anew, from what is there.
        tolerable = (ReadyReason.CHANGE_FAILED, ReadyReason.BAD_SPEC)
        if each.type == ConditionType.READY and each.status != "True" and each.reason not in tolerable:
            return each.message or each.reason
    return ""
