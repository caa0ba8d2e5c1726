"""What CDMO's accounts must be allowed: asked of the API server one by one, and compared with its answers.

Not every right of deploy/rbac, but all that are needed for a first slice; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cdmo.doctor.facts import ClusterFacts, Source, Workload
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import of_cdmo
from cdmo.model.names import GROUP, PROBE_NAMESPACE, PROBE_POD


@dataclass(frozen=True, slots=True)
class Need:
    """One right: verb, plural, group, subresource, and where."""

    verb: str
    plural: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def resource(self) -> str:
        """As `kubectl auth can-i` takes it."""
        part = f"/{self.subresource}" if self.subresource else ""
        return f"{self.plural}{'.' + self.group if self.group else ''}{part}"


AGENT = (
    Need("get", "nodes"),
    Need("patch", "nodes"),
    Need("patch", "nodes", subresource="status"),
    Need("list", "pods"),
    Need("watch", "mignodes", GROUP),
    Need("patch", "mignodes", GROUP, "status"),
    Need("create", "pods", "", "binding", PROBE_NAMESPACE, PROBE_POD),
)
CONTROLLER = (
    Need("watch", "pods"),
    Need("watch", "nodes"),
    Need("patch", "nodes"),
    Need("create", "mignodes", GROUP),
    Need("patch", "mignodes", GROUP),
    Need("create", "events", "events.k8s.io"),
)


def needs_of(facts: ClusterFacts) -> Iterator[tuple[Workload, Need]]:
    """What to ask the API server for each of CDMO's workloads."""
    for workloads, component, needs in (
        (facts.daemon_sets, "agent", AGENT),
        (facts.deployments, "controller", CONTROLLER),
    ):
        for workload in of_cdmo(workloads, component):
            yield from ((workload, need) for need in needs)


def _reading(facts: ClusterFacts) -> Iterator[Trouble]:
    for source, reason in sorted(facts.unread.items()):
        yield Trouble(
            f"cluster/{source}",
            reason,
            f"run this as somebody who may list {source}: `kubectl auth can-i list {source}`",
            Status.WARNING,
        )


def _rights(facts: ClusterFacts) -> Iterator[Trouble]:
    for each in facts.rights:
        if not each.allowed:
            yield Trouble(
                f"ServiceAccount/{each.account}",
                f"may not {each.verb} {each.resource}",
                "install the ClusterRoles, Roles and bindings of this version (the chart's, or deploy/rbac)",
            )


READING = Check("reading", "everything could be read", (), _reading)
RIGHTS = Check(
    "permissions", "CDMO's service accounts may do what they have to", (Source.ACCESS, Source.DAEMON_SETS), _rights
)
