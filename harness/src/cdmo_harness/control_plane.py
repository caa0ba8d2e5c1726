"""A local Kubernetes control plane: etcd, API server, controller manager, scheduler, on loopback, without root.

    with ControlPlane(binaries) as cluster:
        client = lightkube.Client(KubeConfig.from_file(cluster.admin_kubeconfig))

Only the API server has a TCP port (127.0.0.1, TLS); etcd listens on a socket in a private folder. Calls block;
from asynchronous code run them with `asyncio.to_thread`.
"""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Self

import structlog

from cdmo_harness import control_plane_arguments as arguments
from cdmo_harness.binaries import Binaries, Component
from cdmo_harness.cluster_credentials import ClusterCredentials
from cdmo_harness.control_plane_arguments import LOOPBACK, Files
from cdmo_harness.errors import ControlPlaneError, NotReadyInTime, ProcessError
from cdmo_harness.local_api import LocalApi
from cdmo_harness.processes import ManagedProcess, ended
from cdmo_harness.run_folder import RunFolder

_log = structlog.get_logger(__name__)

# Below the range from which Linux takes ports for outgoing connections (32768 and up): such a connection
# could otherwise sit on the API server's port while the server restarts.
_PORTS = range(20000, 32000)

# Read from etcd, so it tells that both answer.
SERVING = "/api/v1/namespaces/default"

# Seconds.
_POLL_INTERVAL = 0.03
_GRACE = 5.0
_KUBECTL_LIMIT = 60.0

# A ServiceAccount's token for tests, seconds: longer than any run.
_TOKEN_LIFETIME = 24 * 3600

_NO_EXTRA: Mapping[Component, Sequence[str]] = MappingProxyType({})

# Clients before what they talk to, so that nobody spends its last seconds on retries.
_STOP_ORDER = (Component.SCHEDULER, Component.CONTROLLER_MANAGER, Component.API_SERVER, Component.ETCD)


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What there is from the start of a control plane to its stop."""

    folder: RunFolder
    files: Files
    port: int
    credentials: ClusterCredentials
    api: LocalApi


class ControlPlane:
    """One control plane. Stopped and started again it is a new, empty one."""

    def __init__(
        self,
        binaries: Binaries,
        *,
        directory: Path | None = None,
        extra_arguments: Mapping[Component, Sequence[str]] = _NO_EXTRA,
        ready_limit: float = 60.0,
        keep_files: bool = False,
    ) -> None:
        """`directory` defaults to a fresh `cdmo-*` in the temporary folder; `stop` removes it.

        `extra_arguments` come after the usual ones of a component and thus win over them. `ready_limit` is
        in seconds, for each step of the start. `keep_files` leaves data and logs behind for a look.
        """
        self._binaries = binaries
        self._directory = directory
        self._extra = extra_arguments
        self._ready_limit = ready_limit
        self._keep_files = keep_files
        self._started: _Cluster | None = None
        self._processes: dict[Component, ManagedProcess] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; returns when pods can be created. On failure what was started is stopped."""
        if self._started is not None:
            raise ControlPlaneError("the control plane is started already")
        began = time.monotonic()
        self._started = _new_cluster(self._directory)
        files = self._started.files
        try:
            self._launch(Component.ETCD, arguments.etcd(files))
            self._wait_until("etcd", lambda: _connectable(files.etcd_socket))
            self.start_api_server()
            self._launch(Component.CONTROLLER_MANAGER, arguments.controller_manager(files))
            self._launch(Component.SCHEDULER, arguments.scheduler(files))
            # Pods are refused in a namespace without it; the controller manager makes it.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._wait_until("the default ServiceAccount", lambda: self._cluster.api.answers(account))
        except BaseException:
            self.stop()
            raise
        _log.info("control plane ready", server=self.server, seconds=round(time.monotonic() - began, 2))

    def stop(self) -> None:
        """End all processes, then remove the folder (or keep it, see `keep_files`)."""
        if self._started is None:
            return
        for component in _STOP_ORDER:
            process = self._processes.pop(component, None)
            if process is not None:
                # Nothing of a folder that is removed needs an orderly end.
                process.stop(grace=_GRACE if self._keep_files else 0)
        self._started.api.close()
        self._started.folder.close(keep=self._keep_files)
        self._started = None

    def start_api_server(self, *, sign: str = "/readyz") -> None:
        """Start the API server (after `stop_api_server`: on the same port, with the same data).

        Returns when a GET of `sign` succeeds. It is not ready before it has gone through all built-in roles, long
        after it serves again on a loaded machine; SERVING tells that.
        """
        cluster = self._cluster
        self._launch(Component.API_SERVER, arguments.api_server(cluster.files, cluster.port))
        self._wait_until("the API server", lambda: cluster.api.answers(sign))

    def stop_api_server(self, *, grace: float = _GRACE) -> None:
        """Stop the API server alone: its clients see refused connections. A grace of 0 is a crash."""
        process = self._processes.pop(Component.API_SERVER, None)
        if process is not None:
            process.stop(grace=grace)

    def restart_api_server(self) -> None:
        """Stop and start the API server; all watches break."""
        self.stop_api_server()
        self.start_api_server()

    def stop_etcd(self, *, grace: float = _GRACE) -> None:
        """Stop etcd alone: the API server answers, with errors. A grace of 0 is a crash."""
        process = self._processes.pop(Component.ETCD, None)
        if process is not None:
            process.stop(grace=grace)

    def start_etcd(self) -> None:
        """Start etcd after `stop_etcd`, with the same data; returns when the API server can use it again."""
        cluster = self._cluster
        cluster.files.etcd_socket.unlink(missing_ok=True)  # left by a crash
        self._launch(Component.ETCD, arguments.etcd(cluster.files))
        self._wait_until("etcd", lambda: _connectable(cluster.files.etcd_socket))
        if Component.API_SERVER in self._processes:
            self._wait_until("the API server", lambda: cluster.api.answers(SERVING))

    def process(self, component: Component) -> ManagedProcess:
        """A running process of the control plane: to pause it, to read its log or its memory."""
        try:
            return self._processes[component]
        except KeyError:
            raise ControlPlaneError(f"{component} is not running") from None

    @property
    def directory(self) -> Path:
        """The folder with everything of this run; below it others may put files of their own."""
        return self._cluster.folder.path

    @property
    def server(self) -> str:
        """The API server's address."""
        return _address(self._cluster.port)

    @property
    def api(self) -> LocalApi:
        """Requests with the administrator's rights."""
        return self._cluster.api

    @property
    def admin_kubeconfig(self) -> Path:
        """Kubeconfig that may do everything."""
        return self._cluster.files.kubeconfig("admin")

    def kubeconfig_for_node(self, name: str) -> Path:
        """Kubeconfig with the rights of this Node's kubelet. The Node need not exist yet."""
        return self._cluster.credentials.for_node(name)

    def service_account_kubeconfig(self, namespace: str, name: str, *, node: str | None = None) -> Path:
        """Kubeconfig with a fresh token of this ServiceAccount, valid for a day.

        With `node`, the token is bound to this Node, as that of a pod that runs there: the API server then
        adds authentication.kubernetes.io/node-name to the user, which policies can read. The token is void
        once the Node is deleted.
        https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/
        """
        spec: dict[str, object] = {"expirationSeconds": _TOKEN_LIFETIME}
        if node is not None:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node}
        answer = self._cluster.api.create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
        )
        token = str(answer["status"]["token"])
        return self._cluster.credentials.for_token(namespace, name, node, token)

    def kubectl(self, *parameters: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator; returns what it printed."""
        program = self._binaries.path(Component.KUBECTL)
        command = [str(program), f"--kubeconfig={self.admin_kubeconfig}", *parameters]
        environment = dict(arguments.environment(self._cluster.files))
        try:
            answer = subprocess.run(
                command, input=stdin, capture_output=True, text=True, env=environment, timeout=_KUBECTL_LIMIT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ControlPlaneError(f"kubectl {' '.join(parameters)} did not finish: {error}") from error
        if answer.returncode != 0:
            raise ControlPlaneError(f"kubectl {' '.join(parameters)} failed: {answer.stderr.strip()}")
        return answer.stdout

    @property
    def _cluster(self) -> _Cluster:
        if self._started is None:
            raise ControlPlaneError("the control plane is not started", hint="call start() first")
        return self._started

    def _launch(self, component: Component, usual: list[str]) -> None:
        if component in self._processes:
            raise ControlPlaneError(f"{component} is running already")
        files = self._cluster.files
        command = [str(self._binaries.path(component)), *usual, *self._extra.get(component, ())]
        self._processes[component] = ManagedProcess(
            component.value, command, folder=files.run, environment=arguments.environment(files)
        )

    def _wait_until(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait for a condition; a component that ends meanwhile is an error at once, with its last words."""
        limit = time.monotonic() + self._ready_limit
        while not ready():
            for process in ended(self._processes.values(), _POLL_INTERVAL):
                raise ProcessError(
                    f"{process.name} ended with status {process.exit_status} while {what} was awaited:\n"
                    + process.tail(12)
                )
            if time.monotonic() > limit:
                logs = "\n".join(f"{p.name}: {p.tail(3)}" for p in self._processes.values())
                raise NotReadyInTime(
                    f"{what} was not ready after {self._ready_limit:g} s; last lines of the logs:\n{logs}",
                    hint="a loaded machine may need a higher ready_limit",
                )


def _new_cluster(directory: Path | None) -> _Cluster:
    """A locked folder with keys, certificates and kubeconfigs, and a port."""
    folder = RunFolder(directory) if directory is not None else RunFolder.temporary()
    try:
        files = Files(folder.path)
        files.run.mkdir(mode=0o700)
        port = free_port()
        credentials = ClusterCredentials(files, server=_address(port), now=datetime.now(UTC))
        api = LocalApi(
            _address(port),
            authority=files.certificate("ca"),
            certificate=files.certificate("admin"),
            private_key=files.private_key("admin"),
        )
    except BaseException:
        folder.close(keep=False)
        raise
    return _Cluster(folder, files, port, credentials, api)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    # From the operating system's randomness: a seeded program run twice would draw the same ports.
    for port in random.SystemRandom().sample(_PORTS, k=200):
        with socket.socket() as probe:
            # As the server will: a port whose last connections are still closing is usable.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ControlPlaneError("no free TCP port was found on 127.0.0.1", hint="are many servers running here?")


def _address(port: int) -> str:
    return f"https://{LOOPBACK}:{port}"


def _connectable(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
