"""What the objects are, by themselves and to each other."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import pytest

from tests.chart.rendering import Chart, Json, container, identity, merged, of_kind, one, pod_spec
from tests.chart.settings import all_values

API_VERSIONS = {
    "Service": "v1",
    "ServiceAccount": "v1",
    "Secret": "v1",
    "Deployment": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
}
CLUSTER_WIDE = {kind for kind in API_VERSIONS if kind.startswith(("Cluster", "Validating", "Custom"))}
# Roles outside the release's namespace: the fence's probe is tried in `default`, the gpu-operator has ConfigMaps.
ELSEWHERE = {"cdmo-agent": "default", "cdmo-doctor": "gpu-operator"}
# The page's override file.
PAGE = {"imageCredentials": {"password": "a-token"}}


@pytest.fixture(scope="module")
def everything(chart: Chart) -> list[Json]:
    """What comes of values in which all that can be switched on is on."""
    return chart.objects(all_values())


def test_every_kind_that_the_chart_can_make_is_made_and_of_a_version_that_1_30_serves(everything: list[Json]) -> None:
    assert {each["kind"]: each["apiVersion"] for each in everything} == API_VERSIONS


def test_every_object_bears_helms_labels_and_lies_in_the_releases_namespace(everything: list[Json]) -> None:
    for each in everything:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm", identity(each)
        assert labels["helm.sh/chart"] == "clearml-dynamic-mig-operator-0.1.0"
        namespace = each["metadata"].get("namespace")
        if each["kind"] in CLUSTER_WIDE:
            assert namespace is None, identity(each)
        else:
            elsewhere = ELSEWHERE.get(each["metadata"]["name"]) if each["kind"].startswith("Role") else None
            assert namespace in ("cdmo", elsewhere), identity(each)


def test_no_object_is_made_twice(everything: list[Json]) -> None:
    assert [name for name, count in Counter(map(identity, everything)).items() if count > 1] == []


def selectors(objects: list[Json]) -> list[tuple[str, Json]]:
    """What each object that goes by pods' labels looks for."""
    found = [(each["metadata"]["name"], each["spec"]["selector"]) for each in of_kind(objects, "Service")]
    for kind in ("PodDisruptionBudget", "Deployment", "DaemonSet"):
        found += [
            (each["metadata"]["name"], each["spec"]["selector"]["matchLabels"]) for each in of_kind(objects, kind)
        ]
    policies = of_kind(objects, "NetworkPolicy")
    return found + [(each["metadata"]["name"], each["spec"]["podSelector"]["matchLabels"]) for each in policies]


def test_whatever_selects_pods_selects_those_of_its_component(everything: list[Json]) -> None:
    workloads = [each for kind in ("Deployment", "DaemonSet", "Job") for each in of_kind(everything, kind)]
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in workloads}
    found = selectors(everything)
    assert len(found) == 9
    for name, selector in found:
        chosen = [other.removesuffix("-1") for other, held in labels.items() if selector.items() <= held.items()]
        assert chosen == [name]


def test_every_account_and_role_that_is_named_is_there(everything: list[Json]) -> None:
    there = set(map(identity, everything))
    for component in ("controller", "agent", "settle", "doctor"):
        assert ("ServiceAccount", "cdmo", pod_spec(everything, component)["serviceAccountName"]) in there
    bindings = of_kind(everything, "RoleBinding") + of_kind(everything, "ClusterRoleBinding")
    assert {each["metadata"]["name"] for each in bindings} == {
        "cdmo-controller",
        "cdmo-agent",
        "cdmo-settle",
        "cdmo-doctor",
        "cdmo-metrics-reader",
    }
    for each in bindings:
        role = each["roleRef"]
        namespace = each["metadata"].get("namespace", "") if role["kind"] == "Role" else ""
        assert (role["kind"], namespace, role["name"]) in there


def test_a_services_port_leads_to_the_port_on_which_the_pods_serve(chart: Chart) -> None:
    objects = chart.objects({"serving": {"port": 9443}})
    for component in ("controller", "agent"):
        (port,) = one(objects, "Service", f"cdmo-{component}")["spec"]["ports"]
        program = container(objects, component)
        assert program["ports"] == [{"name": port["targetPort"], "containerPort": 9443}]
        assert "--listen=0.0.0.0:9443" in program["args"]
        assert program["livenessProbe"]["httpGet"]["port"] == port["targetPort"]


def test_a_certificate_from_a_secret_is_mounted_where_the_program_is_told(chart: Chart) -> None:
    objects = chart.objects({"serving": {"tlsSecret": "cdmo-tls"}})
    for component in ("controller", "agent"):
        assert {"--tls-certificate=/tls/tls.crt", "--tls-key=/tls/tls.key"} <= set(
            container(objects, component)["args"]
        )
        (mount,) = (each for each in container(objects, component)["volumeMounts"] if each["name"] == "tls")
        assert mount == {"name": "tls", "mountPath": "/tls", "readOnly": True}
        (volume,) = (each for each in pod_spec(objects, component)["volumes"] if each["name"] == "tls")
        assert volume["secret"] == {"secretName": "cdmo-tls"}


def login(objects: list[Json]) -> dict[str, Any]:
    """The registries of the pull secret."""
    secret = one(objects, "Secret", "cdmo-registry")
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    return dict(json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"])


def test_the_pages_override_file_makes_a_pull_secret_that_both_use(chart: Chart) -> None:
    objects = chart.objects(PAGE)
    ((registry, account),) = login(objects).items()
    assert registry == "https://index.docker.io/v1/"
    assert (account["username"], account["password"]) == ("allegroaienterprise", "a-token")
    assert base64.b64decode(account["auth"]) == b"allegroaienterprise:a-token"
    for component in ("controller", "agent", "settle", "doctor"):
        assert pod_spec(objects, component)["imagePullSecrets"] == [{"name": "cdmo-registry"}]


def test_a_pull_secret_that_is_named_besides_is_not_named_twice(chart: Chart) -> None:
    """The API server refuses a list with the same key twice."""
    objects = chart.objects(merged(PAGE, {"imagePullSecrets": ["login", "cdmo-registry"]}))
    assert pod_spec(objects, "agent")["imagePullSecrets"] == [{"name": "login"}, {"name": "cdmo-registry"}]


def test_without_a_password_there_is_no_secret(objects: list[Json]) -> None:
    assert of_kind(objects, "Secret") == []
    assert "imagePullSecrets" not in pod_spec(objects, "agent")


@pytest.mark.parametrize(
    ("repository", "registry"),
    [
        ("clearml/cdmo", "https://index.docker.io/v1/"),
        ("docker.io/clearml/cdmo", "https://index.docker.io/v1/"),
        ("ghcr.io/gpu/cdmo", "ghcr.io"),
        ("localhost/cdmo", "localhost"),
        ("registry:5000/cdmo", "registry:5000"),
    ],
)
def test_the_credentials_are_for_the_registry_that_the_image_comes_from(
    chart: Chart, repository: str, registry: str
) -> None:
    assert list(login(chart.objects(merged(PAGE, {"image": {"repository": repository}})))) == [registry]


@pytest.mark.parametrize("password", ['"quoted"', "{{ .Values }}", "a\nb", "ü$(id)", "yes"])
def test_a_password_is_taken_letter_by_letter(chart: Chart, password: str) -> None:
    (account,) = login(chart.objects({"imageCredentials": {"password": password}})).values()
    assert account["password"] == password


def test_an_image_is_named_by_its_tag_or_by_its_digest(chart: Chart) -> None:
    digest = f"sha256:{'0' * 64}"
    assert container(chart.objects({"image": {"tag": "7"}}), "agent")["image"] == "cdmo:7"
    assert container(chart.objects({"image": {"digest": digest}}), "agent")["image"] == f"cdmo@{digest}"


def test_names_that_look_like_numbers_stay_names(chart: Chart) -> None:
    objects = chart.objects({"serving": {"tlsSecret": "123"}, "imagePullSecrets": ["1e3"], "image": {"tag": "1.10"}})
    assert pod_spec(objects, "controller")["imagePullSecrets"] == [{"name": "1e3"}]
    assert pod_spec(objects, "controller")["volumes"][0]["secret"]["secretName"] == "123"
    assert container(objects, "controller")["image"] == "cdmo:1.10"


@pytest.mark.parametrize(("keep", "annotations"), [(True, {"helm.sh/resource-policy": "keep"}), (False, None)])
def test_the_crd_is_kept_on_uninstall_unless_somebody_says_otherwise(
    chart: Chart, keep: bool, annotations: Json | None
) -> None:
    crd = one(chart.objects({"crds": {"keep": keep}}), "CustomResourceDefinition", "mignodes.cdmo.clear.ml")
    assert crd["metadata"].get("annotations") == annotations


def test_nothing_but_the_crd_is_kept(objects: list[Json]) -> None:
    annotated = [each for each in objects if "helm.sh/resource-policy" in each["metadata"].get("annotations", {})]
    kept = [each["kind"] for each in annotated]
    assert kept == ["CustomResourceDefinition"]


def test_pods_may_be_told_another_way_to_the_api_server(chart: Chart) -> None:
    objects = chart.objects({"kubernetesApi": {"host": "10.0.0.1", "port": 6444}, "networkPolicy": {"enabled": True}})
    for component in ("controller", "agent"):
        told = {each["name"]: each.get("value") for each in container(objects, component)["env"]}
        assert (told["KUBERNETES_SERVICE_HOST"], told["KUBERNETES_SERVICE_PORT"]) == ("10.0.0.1", "6444")
        egress = one(objects, "NetworkPolicy", f"cdmo-{component}")["spec"]["egress"][0]["ports"]
        assert [each["port"] for each in egress if each["protocol"] == "TCP"] == [53, 443, 6443, 6444]


def test_a_drain_takes_one_controller_at_a_time_and_is_never_held_up_for_good(objects: list[Json]) -> None:
    budget = one(objects, "PodDisruptionBudget", "cdmo-controller")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
