"""Every sentence that tells a person why a pod waits: at most 200 characters, for Events and tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.planner.fit import Demand

LIMIT = 200  # characters


def cut(sentence: str, limit: int = LIMIT) -> str:
    """The sentence, its end given up where it is too long."""
    return sentence if len(sentence) <= limit else sentence[: limit - 1].rstrip(" ,;:") + "…"


def demand_text(demand: Demand) -> str:
    """`2 nvidia.com/mig-1g.10gb and 1 nvidia.com/mig-3g.40gb`."""
    parts = [f"{count} {resource}" for resource, count in demand]
    return " and ".join(([", ".join(parts[:-1])] if parts[1:] else []) + parts[-1:])


def no_such_profile(resource: str, offered: Collection[str]) -> str:
    """No managed card lists the profile: name those that are to be had, the most alike first."""
    if not offered:
        return f"no node with a MIG card is managed: label one with {PARTITIONING_LABEL}={PARTITIONING_VALUE}"
    near = get_close_matches(resource, sorted(offered), n=3, cutoff=0.8)
    names = [*near, *(each for each in sorted(offered) if each not in near)]
    return cut(f"no managed card can be cut into {resource}; cards here offer {', '.join(names)}")


def absurd_count(resource: str, count: int, most: int) -> str:
    """More slices than any one node could be cut into."""
    return cut(f"asks for {count} of {resource}; the most that one managed node could ever hold is {most}")


def never_fits(demand: Demand) -> str:
    """Each profile exists, together they are too much for every node."""
    return cut(f"asks for {demand_text(demand)}: no managed node could hold that even with every GPU of it empty")


def not_ready(nodes: Sequence[str], why: str) -> str:
    """Fitting nodes exist, none is well."""
    if len(nodes) == 1:
        return cut(f"only node {nodes[0]} could hold it: {why}")
    return cut(f"{len(nodes)} nodes could hold it, none is ready; node {nodes[0]}: {why}")


def out_of_planning(gpu: str, why: str) -> str:
    """A GPU of a fitting node that takes no part."""
    return f"GPU {gpu} is out of planning: {why}"


def no_eligible_node(nodes: Sequence[str], why: str) -> str:
    """Fitting nodes exist, the pod may run on none."""
    if len(nodes) == 1:
        return cut(f"only node {nodes[0]} could hold it, but the pod cannot run there: {why}")
    return cut(f"{len(nodes)} nodes could hold it, but the pod can run on none of them; node {nodes[0]}: {why}")


def tried_in_vain(node: str) -> str:
    """The slices were there and the scheduler still refused."""
    return cut(
        f"its slices were ready on node {node}, yet the scheduler refused it: left alone there for a while; "
        "see the pod's FailedScheduling event"
    )


def short_of_resources(node: str, why: str) -> str:
    """Slices could be cut, something else is used up."""
    return cut(f"best is node {node}: {why}")


def slots_in_the_way(slots: int, node: str, gpu: str, blockers: Sequence[str]) -> str:
    """One slice is missing its window: say where the nearest is and what is in it."""
    needs = f"needs {slots} free slots in a row" if slots > 1 else "needs 1 free slot"
    return in_the_way(f"{needs}; best is node {node} GPU {gpu}", blockers)


def window_kept(demand: Demand, node: str, gpu: str, blockers: Sequence[str]) -> str:
    """The pod has waited for long: say where room is kept for it and what has to end first."""
    return in_the_way(f"needs {demand_text(demand)}; room is kept for it on node {node} GPU {gpu}", blockers)


def kept_for(pod: str) -> str:
    """Slots that are free and given to nobody else."""
    return f"the window kept for {pod}, which has waited for long,"


def too_few(demand: Demand, node: str, resource: str, room: int, gpu: str, blockers: Sequence[str]) -> str:
    """Several slices are asked for and a node has room for some."""
    start = f"needs {demand_text(demand)} on one node; best is node {node} with room for {room} of {resource}"
    return in_the_way(f"{start}; on GPU {gpu}" if gpu else start, blockers)


def not_together(demand: Demand, node: str) -> str:
    """A node has room for each profile of the demand, not for all at once."""
    return cut(
        f"needs {demand_text(demand)} on one node; best is node {node} with room for each, but not for all at once"
    )


def in_the_way(start: str, blockers: Sequence[str]) -> str:
    """`START: BLOCKER is in the way`, with a count of the blockers that are not named."""
    if not blockers:
        return cut(f"{start}: its other slices hold the compute slices or media engines it needs")
    more = len(blockers) - 1
    end = f" and {more} more are in the way" if more else " is in the way"
    head = f"{start}: {blockers[0]}"
    return cut(head, LIMIT - len(end)) + end


def blocker(profile: str, slot: int, holder: str, *, unfit: str, planned: bool) -> str:
    """A slice that must stay, and why. `unfit`: what is the matter with one that nobody can use."""
    if unfit:
        return f"{unfit} {profile} at slot {slot}"
    if planned:
        return f"{profile} planned for {holder} at slot {slot}"
    return f"{profile} of {holder} at slot {slot}" if holder else f"{profile} in use at slot {slot}"


def spoken_for(profile: str, slot: int) -> str:
    """An idle slice that a bound pod may be about to take."""
    return f"{profile} at slot {slot} that a bound pod is about to take"
