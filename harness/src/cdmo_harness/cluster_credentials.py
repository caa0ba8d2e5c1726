"""Who may speak to one local cluster: its authority, its keys, and a kubeconfig for each identity."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from cdmo_harness import pki
from cdmo_harness.control_plane_arguments import FIRST_SERVICE_ADDRESS, LOOPBACK, Files
from cdmo_harness.errors import ControlPlaneError

# Names that Kubernetes allows for Nodes, namespaces and ServiceAccounts; they become parts of file names here.
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")

_SERVER_HOST_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


class ClusterCredentials:
    """Made once for a cluster; all of it lies below the cluster's private folder, readable by its owner only."""

    def __init__(self, files: Files, *, server: str, now: datetime) -> None:
        """Write what the control plane's programs need, and the administrator's kubeconfig."""
        self._files = files
        self._server = server
        self._authority = pki.CertificateAuthority("cdmo-local-cluster", now=now)
        files.pki.mkdir(mode=0o700)
        files.kubeconfigs.mkdir(mode=0o700)
        pki.write_pair(files.pki, "ca", self._authority.pair)
        api_server = self._authority.issue_server(
            "kube-apiserver", host_names=_SERVER_HOST_NAMES, addresses=(LOOPBACK, FIRST_SERVICE_ADDRESS)
        )
        pki.write_pair(files.pki, "kube-apiserver", api_server)
        signing = pki.SigningKey.generate()
        pki.write_private(files.signing_key, signing.private_key)
        pki.write_private(files.checking_key, signing.public_key)
        admin = self._authority.issue_client(pki.ADMIN)
        pki.write_pair(files.pki, "admin", admin)
        self._write("admin", pki.certificate_user(admin))
        for subject, name in (
            (pki.CONTROLLER_MANAGER, "kube-controller-manager"),
            (pki.SCHEDULER, "kube-scheduler"),
        ):
            self._write(name, pki.certificate_user(self._authority.issue_client(subject)))

    def for_node(self, node: str) -> Path:
        """Kubeconfig with the rights of this Node's kubelet; written at the first call for a Node."""
        path = self._files.kubeconfig(f"node-{_checked(node)}")
        if not path.exists():
            pair = self._authority.issue_client(pki.node_subject(node))
            self._write(f"node-{node}", pki.certificate_user(pair))
        return path

    def for_token(self, namespace: str, account: str, node: str | None, token: str) -> Path:
        """Kubeconfig with a ServiceAccount's token, which may be bound to a Node."""
        parts = ["account", namespace, account] + ([node] if node is not None else [])
        # No valid name holds two underscores, so different accounts get different files.
        return self._write("__".join(_checked(part) for part in parts), pki.token_user(token))

    def _write(self, name: str, user: dict[str, str]) -> Path:
        content = pki.kubeconfig(self._server, self._authority.pair.certificate, user)
        return pki.write_private(self._files.kubeconfig(name), content)


def _checked(name: str) -> str:
    if not _OBJECT_NAME.fullmatch(name):
        raise ControlPlaneError(
            f"{name!r} is not a name that Kubernetes accepts",
            hint="names hold lower-case letters, digits, '-' and '.', and begin and end with a letter or digit",
        )
    return name
