"""`cdmo agent`: process 2."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from cdmo.cli._options import (
    HOST_ROOT,
    LISTEN,
    Kubeconfig,
    Listen,
    LogLevel,
    Root,
    TlsCertificate,
    TlsKey,
)
from cdmo.model.modes import ModePolicy
from cdmo.model.names import NAMESPACE, SCHEDULER
from cdmo.runtime.hostpaths import KUBELET_ROOT

# Seconds. Without persistence mode the driver first initialises every GPU in each reading, seconds for each of them.
DRIVER_READ_LIMIT = 20.0
DRIVER_CHANGE_LIMIT = 30.0


def agent(
    node: Annotated[str, typer.Option("--node", envvar="NODE_NAME", help="The name of this node.")],
    kubeconfig: Kubeconfig = None,
    namespace: Annotated[
        str, typer.Option("--namespace", envvar="POD_NAMESPACE", help="CDMO's own namespace.")
    ] = NAMESPACE,
    scheduler: Annotated[
        str,
        typer.Option(
            "--scheduler", help="The scheduler that has to know of a change before pods are let onto the node again."
        ),
    ] = SCHEDULER,
    mig_mode: Annotated[
        ModePolicy,
        typer.Option("--mig-mode", help="When MIG mode is switched on, where the Node's annotation says nothing."),
    ] = ModePolicy.MANUAL,
    root: Root = HOST_ROOT,
    kubelet_root: Annotated[
        Path,
        typer.Option("--kubelet-root", help="The kubelet's root directory, as the host names it; its --root-dir."),
    ] = Path(KUBELET_ROOT),
    placeholder_device_nodes: Annotated[
        bool,
        typer.Option(
            "--placeholder-device-nodes",
            help="Write plain files instead of device nodes: for a simulated driver without the right to mknod.",
        ),
    ] = False,
    driver_read_limit: Annotated[
        float,
        typer.Option(
            "--driver-read-limit", min=1.0, help="Seconds after which a reading of the GPUs counts as hung."
        ),
    ] = DRIVER_READ_LIMIT,
    driver_change_limit: Annotated[
        float,
        typer.Option(
            "--driver-change-limit", min=1.0, help="Seconds after which a create or destroy counts as hung."
        ),
    ] = DRIVER_CHANGE_LIMIT,
    listen: Listen = LISTEN,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    log_level: LogLevel = "info",
) -> None:
    """Run the node agent: cuts this node's GPUs as its MigNode says, safely."""
    # Imported here so that other verbs do not pay for it in time and memory.
    from cdmo.agent.loop import LoopSettings
    from cdmo.agent.main import AgentSettings, DriverLimits, LoggedProgress, run_agent
    from cdmo.errors import BadSettings
    from cdmo.kube.connect import ConnectSettings
    from cdmo.kubelet.devicenodes import NodeKind
    from cdmo.model.names import is_object_name
    from cdmo.runtime.clock import SystemClock
    from cdmo.runtime.hostpaths import HostPaths
    from cdmo.runtime.logging import configure_logging
    from cdmo.serving.settings import serving_settings

    configure_logging("agent", log_level)
    if not is_object_name(node):  # it goes into selectors, where a comma or an equals sign would mean something
        raise BadSettings(f"{node[:80]!r} is no name of a Node", hint="give the name that `kubectl get nodes` shows")
    settings = AgentSettings(
        node=node,
        connect=ConnectSettings(kubeconfig),
        namespace=namespace,
        scheduler=scheduler,
        paths=HostPaths(root, PurePosixPath(kubelet_root)),
        device_node_kind=NodeKind.PLACEHOLDER if placeholder_device_nodes else NodeKind.CHARACTER,
        serving=serving_settings(listen, tls_certificate, tls_key),
        loop=LoopSettings(modes=mig_mode),
        driver=DriverLimits(driver_read_limit, driver_change_limit),
    )
    asyncio.run(run_agent(settings, os.environ, SystemClock(), LoggedProgress()))
