"""Installing CDMO's manifests (deploy/) into a local cluster, as `kubectl apply` would on an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cdmo_harness.local_api import LocalApi

REPOSITORY = Path(__file__).parents[3]
DEPLOY = REPOSITORY / "deploy"
# In this order: the namespace before what lies in it, the CRD and the policies before the processes.
FILES = (
    "rbac/namespace.yaml",
    "crds/mignodes.yaml",
    "policy/fence.yaml",
    "policy/probe.yaml",
    "policy/agent.yaml",
    "policy/controller.yaml",
    "rbac/controller.yaml",
    "rbac/agent.yaml",
    "rbac/metrics-reader.yaml",
)

_COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}


def install(api: LocalApi, folder: Path = DEPLOY) -> None:
    """Create every object of the manifests. The cluster must be empty of them."""
    for name in FILES:
        for document in documents(folder / name):
            namespace = document["metadata"].get("namespace", "")
            api.create(_COLLECTIONS[document["kind"]].format(namespace=namespace), document)


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of one manifest file."""
    for document in yaml.safe_load_all(path.read_text()):
        if document:
            yield document
