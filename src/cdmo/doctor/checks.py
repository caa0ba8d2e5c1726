"""Every check, in the order in which people look: what could be read, CDMO, the nodes, NVIDIA's parts, others."""

from __future__ import annotations

from cdmo.doctor import handing, installation, nodes, plugin_config, rivals, stack
from cdmo.doctor.facts import ClusterFacts
from cdmo.doctor.finding import Check, Finding
from cdmo.doctor.rights import READING, RIGHTS

CHECKS: tuple[Check, ...] = (
    READING,
    *installation.CHECKS,
    RIGHTS,
    *nodes.CHECKS,
    *stack.CHECKS,
    *plugin_config.CHECKS,
    *handing.CHECKS,
    *rivals.CHECKS,
)


def diagnose(facts: ClusterFacts) -> tuple[Finding, ...]:
    """What every check says, at least one finding each."""
    return tuple(finding for check in CHECKS for finding in check.findings(facts))


def table() -> str:
    """The checks as a table for docs/doctor.md."""
    rows = (f"| `{check.name}` | {check.looks_at} |" for check in CHECKS)
    return "\n".join(("| Check | ok means |", "|---|---|", *rows)) + "\n"
