"""Those who have no token of CDMO's: a kubelet's credentials, and users with the usual rights in a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cdmo_harness.control_plane import ControlPlane

from tests.access.acts import RBAC, binding, labels, on_node, on_other, own_label, own_status
from tests.access.caller import MIGNODES, Act, Caller, Json
from tests.access.conftest import eventually
from tests.access.scene import Scene

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

PODS = "/api/v1/namespaces/{namespace}/pods"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture
def kubelet(cluster: ControlPlane, scene: Scene) -> Iterator[Caller]:
    """Whoever stole node `own` has its kubelet's credentials as well."""
    with Caller(cluster.kubeconfig_for_node(scene.own)) as caller:
        yield caller


def agent_pod(scene: Scene, node: str, account: str = "cdmo-agent") -> Json:
    """A pod of CDMO's on a node, as its DaemonSet or Deployment makes it."""
    name = f"pod-{node}-{account}"
    spec = {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "nodeName": node,
        "containers": [{"name": "c", "image": "registry.example/cdmo"}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "cdmo"}, "spec": spec}
    return scene.admin.create(PODS.format(namespace="cdmo"), body)


def token_for(bound_to: Json, account: str = "cdmo-agent") -> Act:
    """What a kubelet asks for to hand a token to a pod."""
    metadata = bound_to["metadata"]
    bound = {
        "kind": bound_to["kind"],
        "apiVersion": "v1",
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound},
    }
    return Act("POST", f"/api/v1/namespaces/cdmo/serviceaccounts/{account}/token", body)


def test_a_kubelet_gets_the_agents_token_for_its_own_node_alone(
    cluster: ControlPlane, scene: Scene, kubelet: Caller
) -> None:
    own, other = agent_pod(scene, scene.own), agent_pod(scene, scene.other)
    elsewhere = agent_pod(scene, scene.other, "cdmo-controller")
    # The node authorizer hears of a new pod a moment later.
    eventually(lambda: kubelet.do(token_for(own)).status == 201, "the pod's token can be had")
    token = kubelet.do(token_for(own)).require()["status"]["token"]
    for refused in (
        token_for(other),
        token_for(elsewhere, "cdmo-controller"),
        token_for(own, "cdmo-controller"),
        token_for(scene.admin.get(f"/api/v1/nodes/{scene.own}")),
        token_for(scene.admin.get(f"/api/v1/nodes/{scene.other}")),
    ):
        assert kubelet.do(refused).status in (400, 403), refused
    with holding(cluster, token) as agent:
        user = agent.create(REVIEWS, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        extra = user["status"]["userInfo"]["extra"]
        assert extra["authentication.kubernetes.io/node-name"] == [scene.own]
        agent.do(own_label(scene)).require()
        agent.do(own_status(scene)).require()
        for act in (own_label, own_status):
            answer = agent.do(on_other(act)(scene))
            assert (answer.status, "its own node's objects only" in answer.message) == (403, True)


def holding(cluster: ControlPlane, token: str) -> Caller:
    """Somebody with this token."""
    return Caller(cluster.admin_kubeconfig, token=token)


def test_a_kubelet_cannot_reach_mignodes_or_lift_anothers_fence(scene: Scene, kubelet: Caller) -> None:
    scene.admin.do(on_other(own_label)(scene)).require()
    for refused in (
        Act("GET", f"{MIGNODES}/{scene.own}"),
        own_status(scene),
        on_other(on_node(labels(cdmo_fenced=None)))(scene),
    ):
        assert kubelet.do(refused).status == 403
    kubelet.do(Act("GET", f"/api/v1/nodes/{scene.own}")).require()


@pytest.fixture
def user(cluster: ControlPlane, scene: Scene) -> Iterator[Caller]:
    """Somebody who may edit what is in the namespace default."""
    grants = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings"
    scene.admin.create(
        grants,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "user"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
        },
    )
    try:
        with Caller(cluster.service_account_kubeconfig("default", "default")) as caller:
            services = Act("GET", "/api/v1/namespaces/default/services")
            eventually(lambda: caller.do(services).status == 200, "the user may work")
            yield caller
    finally:
        scene.admin.do(Act("DELETE", f"{grants}/user"))


def pod_named(name: str, **spec: object) -> Act:
    """A user's pod; nothing is kept of it."""
    containers = [{"name": "c", "image": "registry.example/app"}]
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": containers, **spec},
    }
    return Act("POST", PODS.format(namespace="default"), body, dry_run=True)


def test_nobody_makes_the_pod_whose_absence_proves_the_fence(scene: Scene, user: Caller) -> None:
    for somebody in (user, scene.admin):
        answer = somebody.do(pod_named("cdmo-fence-probe"))
        assert (answer.status, "proves its fence" in answer.message) == (403, True)
        somebody.do(pod_named("cdmo-fence-prober")).require()
    elsewhere = replace(pod_named("cdmo-fence-probe"), path=PODS.format(namespace="cdmo"))
    elsewhere.body["metadata"]["namespace"] = "cdmo"
    scene.admin.do(elsewhere).require()


def test_a_user_who_edits_a_namespace_cannot_reach_cdmo(scene: Scene, user: Caller) -> None:
    for refused in (
        Act("GET", MIGNODES),
        own_status(scene),
        own_label(scene),
        binding(scene.own),
        Act("GET", "/api/v1/namespaces/cdmo/pods"),
        Act("POST", "/api/v1/namespaces/cdmo/serviceaccounts/cdmo-agent/token", {}),
        Act("GET", "/apis/coordination.k8s.io/v1/namespaces/cdmo/leases/cdmo-controller"),
    ):
        answer = user.do(refused)
        assert (answer.status, RBAC in answer.message) == (403, True), refused
    user.do(pod_named("train")).require()
