"""`cdmo agent`: process 2."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from cdmo.cli._options import HOST_ROOT, Kubeconfig, LogLevel, Root


def agent(
    node: Annotated[str, typer.Option("--node", envvar="NODE_NAME", help="The name of this node.")],
    kubeconfig: Kubeconfig = None,
    root: Root = HOST_ROOT,
    placeholder_device_nodes: Annotated[
        bool,
        typer.Option(
            "--placeholder-device-nodes",
            help="Write plain files instead of device nodes: for a simulated driver without the right to mknod.",
        ),
    ] = False,
    log_level: LogLevel = "info",
) -> None:
    """Run the node agent: cuts this node's GPUs as its MigNode says, safely."""
    # Imported here so that other verbs do not pay for it in time and memory.
    from cdmo.agent.main import AgentSettings, LoggedProgress, run_agent
    from cdmo.kube.connect import ConnectSettings
    from cdmo.kubelet.devicenodes import NodeKind
    from cdmo.runtime.clock import SystemClock
    from cdmo.runtime.hostpaths import HostPaths
    from cdmo.runtime.logging import configure_logging

    configure_logging("agent", log_level)
    settings = AgentSettings(
        node=node,
        connect=ConnectSettings(kubeconfig),
        paths=HostPaths(root),
        device_node_kind=NodeKind.PLACEHOLDER if placeholder_device_nodes else NodeKind.CHARACTER,
    )
    asyncio.run(run_agent(settings, os.environ, SystemClock(), LoggedProgress()))
