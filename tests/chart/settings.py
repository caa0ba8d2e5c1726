"""Another value than the default for every key of values.yaml, and what else has to be set so that it matters."""

from __future__ import annotations

from typing import Any

from tests.chart.helm import CHART
from tests.chart.rendering import Json, merged, nested
from tools.chart_values import read_values

VALUES = read_values((CHART / "values.yaml").read_text())
LEAVES = [each for each in VALUES if each.sub_schema is not None]
SECTIONS = [(), *(each.path for each in VALUES if each.sub_schema is None)]

_PODS: dict[str, Any] = {
    "priorityClassName": "gpu-operators",
    "resources": {"requests": {"cpu": "1"}},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "pool", "operator": "Exists"}],
    "podLabels": {"team": "ml"},
    "podAnnotations": {"team": "ml"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
}
# Another value than the default, where the type does not suggest one.
CHANGED: dict[str, Any] = {
    "image.repository": "registry.example/gpu/cdmo",
    "image.tag": "2.0.0",
    "image.digest": f"sha256:{'0' * 64}",
    "imageCredentials.registry": "registry.example",
    "imageCredentials.username": "somebody",
    "imageCredentials.password": "secret",
    "imagePullSecrets": ["registry-login"],
    "kubernetesApi.host": "10.0.0.1",
    "serving.tlsSecret": "cdmo-tls",
    "metrics.readers": [{"namespace": "monitoring", "name": "prometheus"}],
    "networkPolicy.metricsFrom": [{"podSelector": {}}],
    "networkPolicy.apiServerPorts": [16443],
    "doctor.configMapNamespaces": ["gpu-operator"],
    "controller.affinity": {"nodeAffinity": {}},
    "agent.maxUnavailable": 3,
    "agent.kubeletRoot": "/var/snap/microk8s/common/var/lib/kubelet",
    "agent.migMode": "when-idle",
    "agent.scheduler": "our-scheduler",
    "doctor.waitSeconds": 7,
    **{f"{component}.{name}": value for component in ("controller", "agent") for name, value in _PODS.items()},
}
# What else has to be set so that the value matters.
_PASSWORD = {"imageCredentials": {"password": "secret"}}
_NETWORK = {"networkPolicy": {"enabled": True}}
PREMISES: dict[str, Json] = {
    "imageCredentials.registry": {"image": {"repository": "registry.example/cdmo"}, **_PASSWORD},
    "imageCredentials.username": _PASSWORD,
    "kubernetesApi.port": {"kubernetesApi": {"host": "10.0.0.1"}},
    "networkPolicy.metricsFrom": _NETWORK,
    "networkPolicy.apiServerPorts": _NETWORK,
    "controller.affinity": {"controller": {"keepOffGpuNodes": False}},
}


# They exclude one another, or mean another image.
_ALONE = frozenset({"image.digest", "imageCredentials.registry"})


def all_values() -> Json:
    """Everything at once that can be switched on."""
    values: Json = {"networkPolicy": {"enabled": True}, "controller": {"keepOffGpuNodes": False}}
    for each in LEAVES:
        if each.name in CHANGED and each.name not in _ALONE:
            values = merged(values, nested(each.path, CHANGED[each.name]))
    return values
