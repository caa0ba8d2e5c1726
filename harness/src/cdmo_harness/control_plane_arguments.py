"""Command lines of the control plane's programs, with the reason for each choice that is not obvious.

Flags are described at https://kubernetes.io/docs/reference/command-line-tools-reference/ and, for etcd, at
https://etcd.io/docs/latest/op-guide/configuration/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

LOOPBACK = "127.0.0.1"

# Nothing routes to Service addresses here; the range only has to exist, and its first address is the
# `kubernetes` Service, which the API server's certificate names.
SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE_ADDRESS = "10.96.0.1"

SERVICE_ACCOUNT_ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything of one control plane lies, below one private folder."""

    root: Path

    @property
    def run(self) -> Path:
        """Working folder of the processes: logs, records, sockets."""
        return self.root / "run"

    @property
    def etcd_data(self) -> Path:
        """etcd's database."""
        return self.root / "etcd"

    @property
    def etcd_socket(self) -> Path:
        """Where etcd listens: no TCP port, so only this user can read the cluster's Secrets."""
        return self.run / "etcd.sock"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def kubeconfigs(self) -> Path:
        """Kubeconfigs, one for each identity."""
        return self.root / "kubeconfigs"

    def certificate(self, name: str) -> Path:
        """The certificate called `name`."""
        return self.pki / f"{name}.crt"

    def private_key(self, name: str) -> Path:
        """The private key called `name`."""
        return self.pki / f"{name}.key"

    @property
    def signing_key(self) -> Path:
        """The private key that signs service-account tokens."""
        return self.pki / "service-account.key"

    @property
    def checking_key(self) -> Path:
        """The public key that checks them."""
        return self.pki / "service-account.pub"

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of the identity called `name`."""
        return self.kubeconfigs / f"{name}.kubeconfig"


def etcd(files: Files) -> list[str]:
    """etcd on unix sockets, one member."""
    client = f"unix://{files.etcd_socket}"
    # For the peer listener etcd ignores the path and takes the host as a file name in its working folder.
    peer = "unix://etcd-peer.sock:0"
    return [
        "--name=local",
        f"--data-dir={files.etcd_data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        # The data of a test cluster need not survive a power cut, only the end of the process.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(files: Files, port: int) -> list[str]:
    """kube-apiserver with the authorization and admission of a usual cluster, on loopback."""
    return [
        f"--etcd-servers=unix://{files.etcd_socket}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        # Without it the server looks for an outside interface, which an isolated machine may not have.
        f"--advertise-address={LOOPBACK}",
        # A loopback address is not allowed in the Endpoints of the `kubernetes` Service.
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={files.certificate('kube-apiserver')}",
        f"--tls-private-key-file={files.private_key('kube-apiserver')}",
        f"--client-ca-file={files.certificate('ca')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # The node agent's DaemonSet is privileged: it configures the GPU.
        "--allow-privileged=true",
        f"--service-account-issuer={SERVICE_ACCOUNT_ISSUER}",
        f"--service-account-signing-key-file={files.signing_key}",
        f"--service-account-key-file={files.checking_key}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        # Told to stop, the server ends its watches within this time instead of waiting a minute for them.
        "--shutdown-watch-termination-grace-period=1s",
        "--profiling=false",
    ]


def controller_manager(files: Files) -> list[str]:
    """kube-controller-manager with all its usual controllers, each under its own ServiceAccount."""
    return [
        *_client(files.kubeconfig("kube-controller-manager")),
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={files.signing_key}",
        f"--root-ca-file={files.certificate('ca')}",
        f"--cluster-signing-cert-file={files.certificate('ca')}",
        f"--cluster-signing-key-file={files.private_key('ca')}",
        # It makes this folder; the usual place is below /usr, which needs root.
        f"--flex-volume-plugin-dir={files.run / 'flex-volume'}",
        # Each controller fetches a token of its own; at the default of 20 requests a second that takes seconds.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]


def scheduler(files: Files) -> list[str]:
    """kube-scheduler with its default profile."""
    return _client(files.kubeconfig("kube-scheduler"))


def _client(kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        # There is one of each: taking a Lease first would only cost time.
        "--leader-elect=false",
        # Nobody asks for their metrics here; 0 means that they serve nothing and need no certificate.
        "--secure-port=0",
        "--profiling=false",
    ]


def environment(files: Files) -> Mapping[str, str]:
    """What the programs see: nothing of the caller's proxies, credentials or cloud settings."""
    return MappingProxyType({"HOME": str(files.run), "PATH": "/usr/bin:/bin", "TMPDIR": str(files.run)})
