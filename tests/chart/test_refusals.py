"""Values that do not fit together, or not this cluster: one sentence, and the value it names mends it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.chart.rendering import Chart, Json, Refused, merged


@dataclass(frozen=True, slots=True)
class Misfit:
    """Values that are refused, part of the sentence, and what to lay over them so that they are not."""

    values: Json
    sentence: str
    advice: str
    mended: Json = field(default_factory=dict)


MISFITS = {
    "tag and digest": Misfit(
        {"image": {"tag": "1", "digest": f"sha256:{'a' * 64}"}},
        "image.tag and image.digest are both set",
        'set `image.tag` to ""',
        {"image": {"tag": ""}},
    ),
    "password without user": Misfit(
        {"imageCredentials": {"password": "x", "username": ""}},
        "imageCredentials.password is set without a user",
        "set `imageCredentials.username`",
        {"imageCredentials": {"username": "me"}},
    ),
    "registry without password": Misfit(
        {"imageCredentials": {"registry": "docker.io"}},
        "no pull secret would be made",
        "set `imageCredentials.password`",
        {"imageCredentials": {"password": "x"}},
    ),
    "another registry": Misfit(
        {"imageCredentials": {"registry": "docker.io", "password": "x"}, "image": {"repository": "r.example/cdmo"}},
        "imageCredentials are for docker.io and the image comes from r.example",
        'set `imageCredentials.registry` to "r.example"',
        {"imageCredentials": {"registry": "r.example"}},
    ),
    "affinity and the rule it replaces": Misfit(
        {"controller": {"affinity": {"nodeAffinity": {}}}},
        "controller.affinity replaces the rule",
        "set `controller.keepOffGpuNodes` to false",
        {"controller": {"keepOffGpuNodes": False}},
    ),
    "only where it must not be": Misfit(
        {"controller": {"nodeSelector": {"cdmo.clear.ml/gpu-partitioning": "mig"}}},
        "controller.nodeSelector asks for nodes that controller.keepOffGpuNodes excludes",
        "set `controller.keepOffGpuNodes` to false",
        {"controller": {"keepOffGpuNodes": False}},
    ),
    "the selector's label": Misfit(
        {"agent": {"podLabels": {"app.kubernetes.io/component": "gpu"}}},
        "agent.podLabels sets app.kubernetes.io/component",
        "take it out of `agent.podLabels`",
        {"agent": {"podLabels": {"app.kubernetes.io/component": None}}},
    ),
    "a variable that the chart sets": Misfit(
        {"agent": {"env": [{"name": "NODE_NAME", "value": "a"}]}},
        "agent.env sets NODE_NAME, which the chart has to set",
        "take it out of `agent.env`",
        {"agent": {"env": []}},
    ),
    "a variable that has a value": Misfit(
        {"controller": {"env": [{"name": "CDMO_LOG_LEVEL", "value": "debug"}]}},
        "controller.env sets CDMO_LOG_LEVEL, which has a value of its own",
        "set `controller.logLevel`",
        {"controller": {"env": [], "logLevel": "debug"}},
    ),
    "a variable that is set twice": Misfit(
        {"agent": {"env": [{"name": "HTTPS_PROXY", "value": "a"}, {"name": "HTTPS_PROXY", "value": "b"}]}},
        "agent.env sets HTTPS_PROXY twice",
        "take one of them out of `agent.env`",
        {"agent": {"env": [{"name": "HTTPS_PROXY", "value": "b"}]}},
    ),
}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_together_is_refused_with_what_mends_it(chart: Chart, misfit: Misfit) -> None:
    with pytest.raises(Refused) as refusal:
        chart.objects(misfit.values)
    assert misfit.sentence in str(refusal.value)
    assert misfit.advice in str(refusal.value)
    assert chart.objects(merged(misfit.values, misfit.mended))


def test_the_namespace_in_which_the_fence_is_proved_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match="add `--namespace cdmo --create-namespace`"):
        chart.objects({}, namespace="default")


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public"])
def test_a_namespace_with_others_pods_is_refused(chart: Chart, namespace: str) -> None:
    with pytest.raises(Refused, match=f"lets pods in that namespace through, and {namespace} has others' pods: add"):
        chart.objects({}, namespace=namespace)


def test_a_namespace_that_nobody_can_look_up_is_taken(chart: Chart) -> None:
    """Without a cluster; tests/chart/test_on_a_cluster.py has the other half."""
    assert chart.objects({"doctor": {"configMapNamespaces": ["nowhere"]}})


def test_a_cluster_before_1_30_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.30\.0-0 .* Kubernetes v1\.29\.14"):
        chart.objects({}, "--kube-version", "1.29.14")


@pytest.mark.parametrize("version", ["1.30.0", "1.31.4-eks-8cce635", "1.37.2+k3s1"])
def test_a_cluster_from_1_30_on_is_taken_whatever_its_maker_appends(chart: Chart, version: str) -> None:
    assert chart.objects({}, "--kube-version", version)


POLICIES = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"


def test_a_cluster_without_admission_policies_is_refused(chart: Chart) -> None:
    """A real cluster tells Helm its kinds; `helm template` knows groups alone, and has to render all the same."""
    with pytest.raises(Refused, match=r"does not serve ValidatingAdmissionPolicy .* use Kubernetes 1\.30 or newer"):
        chart.objects({}, "--api-versions", "v1/Pod")
    assert chart.objects({}, "--api-versions", "v1/Pod", "--api-versions", POLICIES)
