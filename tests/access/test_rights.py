"""The API server's own answer to what each account may do: everything in the roles, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cdmo_harness.control_plane import ControlPlane

from tests.access.caller import Act, Caller, Json
from tools.generate_access import RBAC, Grant, documents, grants

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
ROLES = "/apis/rbac.authorization.k8s.io/v1"

GRANTS = grants(list(documents(RBAC)))
ACCOUNTS = ("cdmo-agent", "cdmo-controller")
NAMESPACES = ("default", "cdmo", "kube-system", "users")

# Verb and resource of what would lead out of CDMO: into pods, to others' secrets and tokens, to more rights.
ELSEWHERE = tuple(
    (verb, group, resource, "")
    for group, resource, verbs in (
        ("", "secrets", "get list watch create update patch delete"),
        ("", "configmaps", "get list watch create update patch delete"),
        ("", "pods", "get create update patch delete deletecollection"),
        ("", "pods/exec", "get create"),
        ("", "pods/attach", "get create"),
        ("", "pods/portforward", "get create"),
        ("", "pods/log", "get"),
        ("", "pods/proxy", "get create"),
        ("", "pods/status", "update patch"),
        ("", "pods/eviction", "create"),
        ("", "pods/ephemeralcontainers", "update patch"),
        ("", "pods/resize", "update patch"),
        ("", "bindings", "create"),
        ("", "nodes", "create update delete deletecollection"),
        ("", "nodes/status", "update"),
        ("", "nodes/proxy", "get create"),
        ("", "serviceaccounts", "get list create update patch delete impersonate"),
        ("", "serviceaccounts/token", "create"),
        ("", "users", "impersonate"),
        ("", "groups", "impersonate"),
        ("", "persistentvolumes", "get create update patch delete"),
        ("", "persistentvolumeclaims", "get create update patch delete"),
        ("", "namespaces", "get create update patch delete"),
        ("", "services", "get list create update patch delete"),
        ("", "endpoints", "get list create update patch delete"),
        ("", "events", "get list watch create update patch delete"),
        ("discovery.k8s.io", "endpointslices", "get watch create update patch delete"),
        ("events.k8s.io", "events", "get list watch update patch delete"),
        ("coordination.k8s.io", "leases", "list watch update delete"),
        ("apps", "deployments", "get list create update patch delete"),
        ("apps", "daemonsets", "get list create update patch delete"),
        ("batch", "jobs", "get list create update patch delete"),
        ("rbac.authorization.k8s.io", "roles", "get list create update patch delete bind escalate"),
        ("rbac.authorization.k8s.io", "clusterroles", "get list create update patch delete bind escalate"),
        ("rbac.authorization.k8s.io", "rolebindings", "get list create update patch delete"),
        ("rbac.authorization.k8s.io", "clusterrolebindings", "get list create update patch delete"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies", "get list create update patch delete"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "create update patch delete"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "create update patch delete"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "get list create update patch delete"),
        ("certificates.k8s.io", "certificatesigningrequests", "get list create approve"),
        ("certificates.k8s.io", "certificatesigningrequests/approval", "update"),
        ("certificates.k8s.io", "signers", "sign approve attest"),
        ("storage.k8s.io", "storageclasses", "get create update patch delete"),
        ("scheduling.k8s.io", "priorityclasses", "get list create update patch delete"),
        ("cdmo.clear.ml", "mignodes", "update delete deletecollection"),
        ("cdmo.clear.ml", "mignodes/status", "update"),
        ("*", "*", "*"),
    )
    for verb in verbs.split()
)


@pytest.fixture(params=ACCOUNTS)
def account(request: pytest.FixtureRequest) -> str:
    """Each account."""
    return str(request.param)


@pytest.fixture
def caller(cluster: ControlPlane, account: str) -> Iterator[Caller]:
    """The account with a token of its own."""
    node = "first" if account == "cdmo-agent" else None
    with Caller(cluster.service_account_kubeconfig("cdmo", account, node=node)) as made:
        yield made


def may(caller: Caller, verb: str, group: str, resource: str, name: str = "", namespace: str = "") -> bool:
    """What a SelfSubjectAccessReview says."""
    resource, _, subresource = resource.partition("/")
    asked = {
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": subresource,
        "name": name,
        "namespace": namespace,
    }
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    answer = caller.create(REVIEWS, {**kind, "spec": {"resourceAttributes": asked}})
    return bool(answer["status"]["allowed"])


def of(account: str) -> list[Grant]:
    """What the roles give it."""
    found = [each for each in GRANTS if each.account == account]
    assert found
    return found


def test_everything_in_the_roles_is_allowed(caller: Caller, account: str) -> None:
    for each in of(account):
        namespaces = [each.namespace] if each.namespace else ["", *NAMESPACES]
        for namespace in namespaces:
            assert may(caller, each.verb, each.group, each.resource, each.name, namespace), (each, namespace)


def test_a_right_in_one_namespace_is_one_in_no_other(caller: Caller, account: str) -> None:
    local = [each for each in of(account) if each.namespace]
    assert local
    for each in local:
        for namespace in ({"", *NAMESPACES}) - {each.namespace}:
            assert not may(caller, each.verb, each.group, each.resource, each.name, namespace), (each, namespace)
        if each.name:
            assert not may(caller, each.verb, each.group, each.resource, "another", each.namespace), each


def test_nothing_that_leads_out_of_cdmo_is_allowed(caller: Caller, account: str) -> None:
    granted = {(each.verb, each.group, each.resource) for each in of(account) if not each.namespace}
    refused = [each for each in ELSEWHERE if each[:3] not in granted]
    assert len(refused) >= len(ELSEWHERE) - 3
    # What an agent may do with pods beside it, a policy narrows down to its witness (test_agent_witness.py).
    local = {(each.verb, each.group, each.resource, each.namespace) for each in of(account) if each.namespace}
    for namespace in ("", *NAMESPACES):
        asked = [each for each in refused if (*each[:3], namespace) not in local]
        assert len(asked) >= len(refused) - 3
        assert [each for each in asked if may(caller, *each, namespace)] == [], namespace


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_rules_that_apply_are_those_of_the_roles_and_what_everybody_has(
    admin: Caller, caller: Caller, account: str, namespace: str
) -> None:
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    status = caller.create(RULES, {**kind, "spec": {"namespace": namespace}})["status"]
    resources, paths = everybodys(admin)
    expected = {
        (each.verb, each.group, each.resource, each.name) for each in of(account) if each.namespace in ("", namespace)
    }
    assert set(flat(status["resourceRules"])) == expected | resources
    assert {
        (verb, path)
        for rule in status["nonResourceRules"]
        for verb in rule["verbs"]
        for path in rule["nonResourceURLs"]
    } == paths


def everybodys(admin: Caller) -> tuple[set[tuple[str, ...]], set[tuple[str, str]]]:
    """What Kubernetes itself gives to every authenticated user and every service account."""
    groups = {"system:authenticated", "system:serviceaccounts", "system:serviceaccounts:cdmo"}
    resources: set[tuple[str, ...]] = set()
    paths: set[tuple[str, str]] = set()
    for binding in admin.get(f"{ROLES}/clusterrolebindings")["items"]:
        if not groups & {each["name"] for each in binding.get("subjects", ()) if each["kind"] == "Group"}:
            continue
        assert binding["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
        for rule in admin.get(f"{ROLES}/clusterroles/{binding['roleRef']['name']}")["rules"]:
            resources.update(flat([rule]))
            paths.update((verb, path) for verb in rule["verbs"] for path in rule.get("nonResourceURLs", ()))
    return resources, paths


def flat(rules: list[Json]) -> Iterator[tuple[str, ...]]:
    """Rules as single rights."""
    for rule in rules:
        one: dict[str, Any] = rule
        for group in one.get("apiGroups", ()):
            for resource in one.get("resources", ()):
                for name in one.get("resourceNames", ("",)):
                    yield from ((verb, group, resource, name) for verb in one["verbs"])


def test_another_account_has_no_right_to_mignodes(cluster: ControlPlane, admin: Caller) -> None:
    path = cluster.service_account_kubeconfig("default", "default")
    with Caller(path) as stranger:
        for resource in ("mignodes", "mignodes/status"):
            for verb in ("get", "list", "watch", "create", "update", "patch", "delete"):
                assert not may(stranger, verb, "cdmo.clear.ml", resource)
    assert admin.do(Act("GET", "/apis/cdmo.clear.ml/v1alpha1/mignodes")).status == 200
