"""A control plane of these tests' own, with all of CDMO's manifests, where nobody but the tests writes Nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from cdmo_harness import manifests
from cdmo_harness.binaries import Binaries, Component
from cdmo_harness.control_plane import ControlPlane

from tests.access.caller import MERGE, NODES, Act, Caller
from tests.access.scene import Scene, make_node, staged

_POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
_LIMIT = 30.0  # seconds; API servers take up policies about once a second


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Ask the API server again until it holds; it takes up rights and policies a moment after they are written."""
    end = time.monotonic() + _LIMIT
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {_LIMIT:g} s"


@pytest.fixture(scope="package")
def cluster(binaries: Binaries) -> Iterator[ControlPlane]:
    """It stands still: the controller manager is paused once it has judged the policies, the scheduler at once."""
    with ControlPlane(binaries) as running:
        manifests.install(running.api)
        with Caller(running.admin_kubeconfig) as admin:
            eventually(
                lambda: all("typeChecking" in each["status"] for each in _policies(admin)), "types are checked"
            )
            running.process(Component.CONTROLLER_MANAGER).pause()
            running.process(Component.SCHEDULER).pause()
            make_node(admin, "first")
            for account in ("cdmo-controller", "cdmo-agent"):
                with Caller(running.service_account_kubeconfig("cdmo", account)) as caller:
                    # A dry run: were it carried out before the policy is there, it would change nothing later on.
                    attack = Act("PATCH", f"{NODES}/first", {"metadata": {"labels": {"x": "y"}}}, MERGE, dry_run=True)
                    eventually(partial(_refused, caller, attack, account), f"the policy {account} is in force")
        yield running


def _refused(caller: Caller, attack: Act, policy: str) -> bool:
    return f"ValidatingAdmissionPolicy '{policy}'" in caller.do(attack).message


def _policies(admin: Caller) -> list[dict[str, dict[str, object]]]:
    return list(admin.get(_POLICIES)["items"])


@pytest.fixture(scope="package")
def admin(cluster: ControlPlane) -> Iterator[Caller]:
    """Somebody who may do everything."""
    with Caller(cluster.admin_kubeconfig) as caller:
        yield caller


@pytest.fixture(scope="package")
def unbound(cluster: ControlPlane) -> Iterator[Caller]:
    """The agents' account with a token that is bound to no node."""
    with Caller(cluster.service_account_kubeconfig("cdmo", "cdmo-agent")) as caller:
        yield caller


@pytest.fixture(scope="package")
def controller(cluster: ControlPlane) -> Iterator[Caller]:
    """The controller's account."""
    with Caller(cluster.service_account_kubeconfig("cdmo", "cdmo-controller")) as caller:
        yield caller


@pytest.fixture
def scene(cluster: ControlPlane, admin: Caller, unbound: Caller, controller: Caller) -> Iterator[Scene]:
    """Two nodes and everybody who acts."""
    with staged(cluster, admin, unbound, controller) as made:
        yield made


@pytest.fixture
def unlimited(scene: Scene) -> Iterator[Scene]:
    """A cluster whose administrator gave every service account everything: RBAC no longer refuses."""
    grants = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    subject = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts:cdmo"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    scene.admin.create(
        grants,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "too-much"},
            "roleRef": role,
            "subjects": [subject],
        },
    )
    secrets = Act("GET", "/api/v1/secrets")
    try:
        eventually(lambda: scene.agent.do(secrets).status == 200, "everything is allowed")
        yield scene
    finally:
        scene.admin.do(Act("DELETE", f"{grants}/too-much"))
        eventually(lambda: scene.agent.do(secrets).status == 403, "it no longer is")
