"""CDMO's own parts: is everything there, in force, alive and of one version?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cdmo.api.v1alpha1 import MigNode
from cdmo.doctor.facts import ClusterFacts, Policy, PolicyBinding, Source, Workload
from cdmo.doctor.finding import Check, Status, Trouble
from cdmo.doctor.parts import of_cdmo, reported, version_in
from cdmo.model.names import FENCE_POLICY, GROUP, VERSION
from cdmo.model.policy import AGENT_SILENT_AFTER
from cdmo.model.reasons import ConditionType, ReadyReason
from cdmo.version import __version__

OLDEST_KUBERNETES = (1, 30)  # the first with ValidatingAdmissionPolicy in its final form
# Name and failurePolicy of what deploy/policy installs. Those that confine CDMO must fail closed, the others open.
POLICIES = {FENCE_POLICY: "Ignore", "cdmo-probe": "Ignore", "cdmo-agent": "Fail", "cdmo-controller": "Fail"}
_INSTALL = "install CDMO's chart of this version again (or `kubectl apply -f deploy/policy`)"


def _kubernetes(facts: ClusterFacts) -> Iterator[Trouble]:
    version = version_in(facts.version)
    if version is None or version[:2] < OLDEST_KUBERNETES:
        yield Trouble(
            "cluster/version",
            f"the API server is {facts.version or 'of no known version'}; without ValidatingAdmissionPolicy no fence "
            "can hold",
            "upgrade Kubernetes to 1.30 or later",
        )


def _definition(facts: ClusterFacts) -> Iterator[Trouble]:
    name = f"mignodes.{GROUP}"
    found = next((each for each in facts.definitions if each.name == name), None)
    about, fix = f"CustomResourceDefinition/{name}", "`cdmo crd | kubectl apply --server-side -f -`"
    if found is None:
        yield Trouble(about, "is not installed", fix)
    elif VERSION not in found.served:
        yield Trouble(about, f"does not serve {VERSION}, which this CDMO speaks", fix)
    elif not found.established:
        yield Trouble(about, "is not established: its names collide with another's, or it is being deleted", fix)


def _policies(facts: ClusterFacts) -> Iterator[Trouble]:
    there = {each.name: each for each in facts.policies}
    bindings = {each.policy: each for each in facts.bindings}
    version = version_in(facts.version)
    if version is not None and version[:2] < OLDEST_KUBERNETES:
        return  # it has none, and the check of its version says so
    for name, failure in POLICIES.items():
        yield from _policy(name, failure, there.get(name), bindings.get(name))


def _policy(name: str, failure: str, policy: Policy | None, binding: PolicyBinding | None) -> Iterator[Trouble]:
    about = f"ValidatingAdmissionPolicy/{name}"
    effect = "no slice is cut without it" if name == FENCE_POLICY else "what it forbids is possible"
    if policy is None:
        yield Trouble(about, f"is not installed: {effect}", _INSTALL)
    elif binding is None or "Deny" not in binding.actions:
        why = "has no binding" if binding is None else "is bound without the action Deny"
        yield Trouble(about, f"{why}, so that it is not in force: {effect}", _INSTALL)
    elif policy.failure_policy != failure:
        yield Trouble(about, f"has failurePolicy {policy.failure_policy} instead of {failure}", _INSTALL)
    elif policy.warnings:
        yield Trouble(about, f"does not fit this API server: {policy.warnings[0]}", _INSTALL)
    elif not policy.seen:
        yield Trouble(
            about,
            "has not been looked at by the API server since it was changed",
            "wait some seconds and look again; if it stays, see the log of kube-controller-manager",
            Status.WARNING,
        )


def _controller(facts: ClusterFacts) -> Iterator[Trouble]:
    found = of_cdmo(facts.deployments, "controller")
    if not found:
        yield Trouble("Deployment/cdmo-controller", "is not installed: nothing is planned", "install CDMO's chart")
    for each in found:
        if each.ready == 0:
            yield Trouble(
                str(each), "has no ready pod: nothing is planned", f"`kubectl -n {each.namespace} describe pods`"
            )


def _agents(facts: ClusterFacts) -> Iterator[Trouble]:
    installed = of_cdmo(facts.daemon_sets, "agent")
    if not installed:
        yield Trouble("DaemonSet/cdmo-agent", "is not installed: nothing is cut", "install CDMO's chart")
        return
    log = f"`kubectl -n {installed[0].namespace} logs daemonset/{installed[0].name}` of that node's pod"
    for node, mignode in reported(facts):
        if mignode is None:
            yield Trouble(f"Node/{node.name}", "has the label, but no MigNode yet", "see the controller's log")
        else:
            yield from _agent(mignode, facts.read_at, log)


def _agent(mignode: MigNode, now: float, log: str) -> Iterator[Trouble]:
    about = f"MigNode/{mignode.metadata.name}"
    agent = mignode.status.agent
    silent = None if agent is None else _age(agent.heartbeat, now)
    if silent is None:
        yield Trouble(about, "no agent has reported yet", f"see {log}")
    elif silent > AGENT_SILENT_AFTER:
        yield Trouble(about, f"its agent has been silent for {silent:.0f} s, by this machine's clock", f"see {log}")
    else:
        unusable = (ReadyReason.NO_MIG_GPU, ReadyReason.DISABLED)  # of which other checks tell more
        for each in mignode.status.conditions:
            if each.type == ConditionType.READY and each.status == "False" and each.reason not in unusable:
                yield Trouble(about, f"is not ready: {each.message or each.reason}", f"see {log}")


def _age(heartbeat: str, now: float) -> float | None:
    try:
        return now - datetime.fromisoformat(heartbeat.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None


def _versions(facts: ClusterFacts) -> Iterator[Trouble]:
    for workload in (*of_cdmo(facts.deployments, "controller"), *of_cdmo(facts.daemon_sets, "agent")):
        if (version := _version_of(workload)) not in ("", __version__):
            yield _skewed(str(workload), version)
    for node, mignode in reported(facts):
        agent = mignode.status.agent if mignode else None
        if agent is not None and agent.version != __version__:
            yield _skewed(f"MigNode/{node.name}", agent.version, "its agent")


def _version_of(workload: Workload) -> str:
    """As its label says, else its image's tag; empty: neither is a version."""
    said = (workload.labels.get("app.kubernetes.io/version", ""), *(each.tag for each in workload.containers))
    return next((each.removeprefix("v") for each in said if version_in(each) is not None), "")


def _skewed(about: str, version: str, what: str = "it") -> Trouble:
    return Trouble(
        about,
        f"{what} is CDMO {version}, this command is {__version__}",
        "upgrade CDMO's chart, or take the command of the installed version; a roll-out may still be under way",
        Status.WARNING,
    )


_MINE = (Source.NODES, Source.MIG_NODES)
_ALL = (*_MINE, Source.DAEMON_SETS, Source.DEPLOYMENTS)
CHECKS = (
    Check("kubernetes", "the API server is 1.30 or later", (Source.VERSION,), _kubernetes),
    Check("crd", "the API server knows MigNodes", (Source.DEFINITIONS,), _definition),
    Check(
        "admission-policies",
        "the admission policies are there and in force",
        (Source.POLICIES, Source.BINDINGS, Source.VERSION),
        _policies,
    ),
    Check("controller", "a controller is ready", (Source.DEPLOYMENTS,), _controller),
    Check("agents", "every labelled Node has an agent that reports", (*_MINE, Source.DAEMON_SETS), _agents),
    Check("versions", "controller, agents and this command are of one version", _ALL, _versions),
)
