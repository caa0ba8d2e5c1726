"""`cdmo controller`: process 1."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from cdmo.cli._options import LISTEN, Kubeconfig, Listen, LogLevel, TlsCertificate, TlsKey
from cdmo.model.policy import Policy


def controller(
    kubeconfig: Kubeconfig = None,
    lease_namespace: Annotated[
        str, typer.Option("--lease-namespace", envvar="POD_NAMESPACE", help="Where the leader's Lease lies.")
    ] = "cdmo",
    reserve_after: Annotated[
        float,
        typer.Option("--reserve-after", min=0.0, help="Seconds after which a window is kept for a blocked pod."),
    ] = Policy().reserve_after,
    listen: Listen = LISTEN,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    log_level: LogLevel = "info",
) -> None:
    """Run the controller: watches pods and nodes, plans slices, publishes MigNode specs."""
    # Imported here so that other verbs do not pay for it in time and memory.
    from cdmo.controller.main import ControllerSettings, run_controller
    from cdmo.kube.connect import ConnectSettings
    from cdmo.runtime.clock import SystemClock
    from cdmo.runtime.logging import configure_logging
    from cdmo.serving.settings import serving_settings

    configure_logging("controller", log_level)
    settings = ControllerSettings(
        ConnectSettings(kubeconfig),
        lease_namespace,
        Policy(reserve_after=reserve_after),
        serving_settings(listen, tls_certificate, tls_key),
    )
    asyncio.run(run_controller(settings, os.environ, SystemClock()))
