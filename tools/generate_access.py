"""Write the table of CDMO's rights, from the roles, their reasons and the admission policies below deploy/.

    python -m tools.generate_access --write    write docs/reference/access.md
    python -m tools.generate_access --check    write nothing; exit 1 if the committed page is another one

A verb without a reason and a reason without its verb are errors: whoever widens a role says why.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from tools.generated import REPOSITORY, NotMade, write_or_check

RBAC = REPOSITORY / "deploy" / "rbac"
HOOKS = REPOSITORY / "deploy" / "hooks"  # roles of the chart's Jobs
POLICIES = REPOSITORY / "deploy" / "policy"
TARGET = REPOSITORY / "docs" / "reference" / "access.md"

ACCOUNTS = {
    "cdmo-controller": "The controller",
    "cdmo-agent": "The agents",
    "cdmo-settle": "The chart's Job before `helm uninstall`",
    "cdmo-doctor": "The chart's Job after an install or upgrade",
}
CONFINING = ("cdmo-controller", "cdmo-agent", "cdmo-probe", "cdmo-fence")  # policies, in the page's order

HEAD = """<!-- Generated from deploy/{rbac,hooks,policy} by tools/generate_access.py (`make crd`); do not edit. -->

# What CDMO may ask of the API server

Every right of CDMO's service accounts, and why it is needed. What each means for the cluster's safety is in
[access](../access.md).
"""


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One verb on one resource."""

    account: str
    namespace: str  # empty: the whole cluster
    group: str  # empty: the core group
    resource: str  # with its subresource
    name: str  # empty: any
    verb: str

    @property
    def kind(self) -> str:
        """The resource as kubectl and the reasons name it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Every object of a folder's manifests."""
    for path in sorted(folder.glob("*.yaml")):
        yield from (each for each in yaml.safe_load_all(path.read_text()) if each)


def grants(objects: list[dict[str, Any]]) -> list[Grant]:
    """What the bindings among these objects give to service accounts, one grant a verb."""
    roles = {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in objects
    }
    found: set[Grant] = set()
    for binding in objects:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        namespace = binding["metadata"].get("namespace", "")
        reference = binding["roleRef"]
        home = namespace if reference["kind"] == "Role" else ""
        rules = roles[(reference["kind"], home, reference["name"])]["rules"]
        for subject in binding["subjects"]:
            for rule in rules:
                found.update(_of_rule(subject["name"], namespace, rule))
    return sorted(found)


def _of_rule(account: str, namespace: str, rule: dict[str, Any]) -> Iterator[Grant]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames", [""]):
                for verb in rule["verbs"]:
                    yield Grant(account, namespace, group, resource, name, verb)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    kind: str
    where: str
    verbs: str
    why: str


def rows(account: str, granted: list[Grant], reasons: dict[str, dict[str, str]]) -> list[Row]:
    """The table of one account. Raises NotMade naming every verb or reason that is alone."""
    unexplained: dict[tuple[str, str], list[Grant]] = {}
    for each in granted:
        if each.account == account:
            unexplained.setdefault((each.kind, each.verb), []).append(each)
    made: list[Row] = []
    for kind, by_verbs in reasons.items():
        for verbs, why in by_verbs.items():
            explained = [unexplained.pop((kind, verb), []) for verb in verbs.split(", ")]
            if not all(explained):
                raise NotMade(f"reasons.toml: {account} has no {verbs!r} on {kind}")
            made.extend(Row(kind, where, verbs, why) for where in dict.fromkeys(map(_where, chain(*explained))))
    if unexplained:
        alone = ", ".join(f"{verb} {kind}" for kind, verb in sorted(unexplained))
        raise NotMade(f"reasons.toml: {account} may {alone}, and nothing says why")
    return made


def _where(grant: Grant) -> str:
    place = f"namespace `{grant.namespace}`" if grant.namespace else "cluster"
    return f"{place}, `{grant.name}` only" if grant.name else place


def page(objects: list[dict[str, Any]], reasons: dict[str, Any], policies: list[dict[str, Any]]) -> str:
    """The text of the page."""
    granted = grants(objects)
    unknown = sorted({*reasons, *(each.account for each in granted)} - ACCOUNTS.keys())
    if unknown:
        raise NotMade(f"accounts that the page does not know: {', '.join(unknown)}")
    parts = [HEAD]
    for account, title in ACCOUNTS.items():
        parts.append(f"\n## {title}\n\nService account `{account}`, namespace `cdmo`.\n\n")
        parts.append("| Resource | Where | Verbs | Why |\n|---|---|---|---|\n")
        parts += [
            f"| `{row.kind}` | {row.where} | {row.verbs} | {row.why} |\n"
            for row in rows(account, granted, reasons.get(account, {}))
        ]
    parts.append("\n## What admission refuses besides\n\n| Policy | Refusal |\n|---|---|\n")
    named = {each["metadata"]["name"]: each for each in policies if each["kind"] == "ValidatingAdmissionPolicy"}
    if named.keys() != set(CONFINING):
        raise NotMade(f"policies that the page does not know: {', '.join(sorted(named.keys() ^ set(CONFINING)))}")
    parts += [f"| `{name}` | {said} |\n" for name in CONFINING for said in messages(named[name])]
    return "".join(parts)


def messages(policy: dict[str, Any]) -> list[str]:
    """The sentences with which a policy refuses, also those that it puts together."""
    return [each.get("message") or f"`{each['messageExpression']}`" for each in policy["spec"]["validations"]]


def made() -> dict[Path, str]:
    """The page. Raises NotMade."""
    reasons = tomllib.loads((RBAC / "reasons.toml").read_text())
    return {TARGET: page([*documents(RBAC), *documents(HOOKS)], reasons, list(documents(POLICIES)))}


if __name__ == "__main__":
    raise SystemExit(write_or_check("The table of CDMO's rights.", made, "deploy/"))
