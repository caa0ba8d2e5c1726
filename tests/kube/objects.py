"""Pods, nodes and kubeconfigs as an API server or an administrator would hand them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdmo.kube.connect import Connection, ConnectSettings, connect

Json = dict[str, Any]
POD_PATH = "api/v1/namespaces/ml/pods"


def container(restart_policy: str = "", **requests: str) -> Json:
    """A container; `mig_1g=…` stands for nvidia.com/mig-1g.10gb."""
    named = {"nvidia.com/mig-1g.10gb" if name == "mig_1g" else name: value for name, value in requests.items()}
    made: Json = {"name": "c", "image": "registry.example/app", "resources": {"requests": named, "limits": named}}
    return {**made, "restartPolicy": restart_policy} if restart_policy else made


def pod_json(
    name: str, *, uid: str = "", labels: Json | None = None, status: Json | None = None, **spec: Any
) -> Json:
    """A pod asking for one slice, unless told otherwise."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": uid or f"uid-{name}",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": labels or {"app": name},
        },
        "spec": {"schedulerName": "default-scheduler", "containers": [container(mig_1g="1")], **spec},
        "status": {"phase": "Pending", **(status or {})},
    }


def node_json(name: str, *, taints: list[Json] | None = None, **status: Any) -> Json:
    """A ready node."""
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": taints} if taints else {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {}, "allocatable": {}, **status},
    }


def kubeconfig(folder: Path, server: str, **user: Any) -> Path:
    """A kubeconfig for this server (JSON is YAML)."""
    path = folder / "kubeconfig"
    content = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": user}],
    }
    path.write_text(json.dumps(content))
    return path


def connection_to(server: str, folder: Path) -> Connection:
    """A connection as a process would open it."""
    return connect(ConnectSettings(kubeconfig=kubeconfig(folder, server)), {})
