"""The policies as objects: their types fit, they fail closed for CDMO alone, and know its accounts in one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.manifests import DEPLOY, FILES, documents

from tests.access.caller import Act, Caller
from tests.access.conftest import eventually

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
CONFINED = ("agent", "controller")


@pytest.mark.cluster
def test_the_api_server_finds_nothing_to_say_about_the_types(admin: Caller) -> None:
    found = {each["metadata"]["name"]: each["status"]["typeChecking"] for each in admin.get(POLICIES)["items"]}
    assert found == {"cdmo-agent": {}, "cdmo-controller": {}, "cdmo-fence": {}, "cdmo-probe": {}}


@pytest.mark.parametrize("name", CONFINED)
def test_a_policy_that_fails_refuses_cdmo_and_nobody_else(name: str) -> None:
    policy, binding = documents(DEPLOY / "policy" / f"{name}.yaml")
    assert policy["spec"]["failurePolicy"] == "Fail"
    account = f"system:serviceaccount:cdmo:cdmo-{name}"
    # Everybody has a user name: an expression that reads nothing else cannot fail.
    assert [each["expression"] for each in policy["spec"]["matchConditions"]] == [
        f"request.userInfo.username == '{account}'"
    ]
    assert (DEPLOY / "policy" / f"{name}.yaml").read_text().count(account) == 1
    assert binding["spec"]["validationActions"] == ["Deny", "Audit"]
    assert "matchResources" not in binding["spec"]


@pytest.mark.parametrize("name", ["fence", "probe"])
def test_a_policy_about_everybody_never_keeps_a_cluster_from_scheduling(name: str) -> None:
    policy, _ = documents(DEPLOY / "policy" / f"{name}.yaml")
    assert policy["spec"]["failurePolicy"] == "Ignore"


def test_every_local_cluster_runs_under_every_policy_and_role() -> None:
    there = {str(path.relative_to(DEPLOY)) for folder in ("policy", "rbac", "crds") for path in _manifests(folder)}
    assert set(FILES) == there


def _manifests(folder: str) -> list[Path]:
    found = sorted((DEPLOY / folder).glob("*.yaml"))
    assert found
    return found


@pytest.mark.cluster
def test_who_is_bound_to_the_metrics_role_may_read_metrics_and_nothing_else(
    cluster: ControlPlane, admin: Caller
) -> None:
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    rbac = "rbac.authorization.k8s.io"
    admin.create(
        bindings,
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "prometheus"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cdmo-metrics-reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "kube-system"}],
        },
    )
    try:
        with Caller(cluster.service_account_kubeconfig("kube-system", "default")) as prometheus:
            # The API server's own metrics are behind the same right: what answers them is the right itself.
            eventually(lambda: prometheus.do(Act("GET", "/metrics")).status == 200, "metrics can be read")
            assert prometheus.do(Act("GET", "/logs")).status == 403
            assert prometheus.do(Act("GET", "/api/v1/nodes")).status == 403
    finally:
        admin.do(Act("DELETE", f"{bindings}/prometheus")).require()
