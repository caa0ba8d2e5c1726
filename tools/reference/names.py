"""docs/reference/names.md: labels, annotations, taints and other names by which CDMO is known, from model/names.py.

Who sets each and what it means is said here; a name that is not explained, and an explanation of a name that is gone,
are errors.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdmo.model import names
from cdmo.model.modes import ModePolicy
from tools.generated import NotMade

HEAD = """<!-- Generated from src/cdmo/model/names.py by tools/generate_reference.py (`make crd`); do not edit. -->

# Labels, annotations, taints and names

| Name | What | Whose | Means |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Explained:
    """What a constant of model/names.py is. `value` names the constant with what it is set to; empty: anything."""

    what: str
    whose: str
    means: str
    value: str = ""


EXPLAINED = {
    "PARTITIONING_LABEL": Explained(
        "label of a Node", "yours", "CDMO cuts the GPUs of this node.", "PARTITIONING_VALUE"
    ),
    "FENCE_LABEL": Explained(
        "label of a Node",
        "the agent's",
        f"No pod can be bound to the node. `{names.FENCE_VALUE}`: nothing was touched yet. `{names.FENCE_CHANGING}`: "
        "kubelet and GPUs may disagree; only the agent may take it off.",
    ),
    "REPARTITIONING_TAINT": Explained(
        "taint of a Node, NoSchedule", "the agent's", "Stands beside the fence, so that the scheduler does not try."
    ),
    "CHANGE_LABEL": Explained(
        "label of a Node",
        "the agent's",
        "A word of the change under way, by which the scheduler shows that it knows.",
    ),
    "WITNESS_RESOURCE": Explained(
        "extended resource",
        "nobody's",
        f"No node has it. The pods `{names.witness_pod('NODE')}` in CDMO's namespace ask for it and never run: what "
        "the scheduler says of them shows whether it has heard of a change.",
    ),
    "MANAGED_LABEL": Explained(
        "label of a Node",
        "the agent's",
        "Keeps the agent on a node that lost your label until it is clean.",
    ),
    "MIG_MODE_ANNOTATION": Explained(
        "annotation of a Node",
        "yours",
        "Whether CDMO may switch MIG mode there: " + ", ".join(f"`{each}`" for each in ModePolicy) + ". Without it "
        "the agent's own setting holds.",
    ),
    "FENCE_POLICY": Explained(
        "ValidatingAdmissionPolicy", "the chart's", "Refuses bindings to nodes that have the fence's label."
    ),
    "LEASE_NAME": Explained("Lease in CDMO's namespace", "the controller's", "Whoever holds it leads."),
    "PROBE_POD": Explained(
        f"pod in the namespace `{names.PROBE_NAMESPACE}`",
        "nobody's",
        "Never exists: a dry-run binding of it shows whether the fence is up. The policy `cdmo-probe` refuses a pod "
        "of this name.",
    ),
    "MIG_RESOURCE_PREFIX": Explained(
        "extended resources",
        "NVIDIA's device plugin's",
        f"Slices: `{names.resource_of_profile('3g.40gb')}`; a `+` of the profile is a `.` here: "
        f"`{names.resource_of_profile('1g.10gb+me')}`.",
    ),
    "GROUP": Explained("API group", "CDMO's", f"Of [MigNode](mignode.md), version `{names.VERSION}`."),
}
# Said with one of those above, or another's name.
WITH_ANOTHER = frozenset(
    {
        "VERSION",
        "PARTITIONING_VALUE",
        "FENCE_VALUE",
        "FENCE_CHANGING",
        "PROBE_NAMESPACE",
        "RESOURCE_PREFIX",
        "NAMESPACE",
        "SCHEDULER",
    }
)


def page() -> str:
    """The text of the page. Raises NotMade naming the constants that are not explained, or are gone."""
    known = {name for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    wrong = sorted(known ^ (EXPLAINED.keys() | WITH_ANOTHER))
    if wrong:
        raise NotMade(f"tools/reference/names.py and model/names.py do not agree on {', '.join(wrong)}")
    return HEAD + "".join(_row(name, each) for name, each in EXPLAINED.items())


def _row(name: str, each: Explained) -> str:
    value = f"={getattr(names, each.value)}" if each.value else ""
    return f"| `{getattr(names, name)}{value}` | {each.what} | {each.whose} | {each.means} |\n"
