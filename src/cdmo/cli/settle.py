"""`cdmo settle`: wait until CDMO can be taken away. The chart runs it before `helm uninstall`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from cdmo.cli._options import Kubeconfig
from cdmo.doctor.settling import Remains, told
from cdmo.text import printable

WAIT = 60.0  # seconds


def settle(
    kubeconfig: Kubeconfig = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0.0, help="Seconds to wait for changes that are under way.")
    ] = WAIT,
    hold_planning: Annotated[
        bool,
        typer.Option(
            "--hold-planning",
            help="Keep the controllers from planning meanwhile, and for half a minute more when it went well: holds "
            "their Lease.",
        ),
    ] = False,
    lease_namespace: Annotated[
        str,
        typer.Option("--lease-namespace", envvar="POD_NAMESPACE", help="Where the controllers' Lease lies."),
    ] = "cdmo",
) -> None:
    """Wait until no node is in the middle of a change, and say what stays when CDMO is uninstalled.

    Exit status 0: nothing is under way. 1: some node is still in the middle of a change, or the cluster is silent.
    """
    left = asyncio.run(_settle(kubeconfig, wait, hold_planning, lease_namespace))
    for line in ("No node is in the middle of a change.", *told(left)):
        typer.echo(printable(line))


async def _settle(kubeconfig: Path | None, wait: float, hold_planning: bool, lease_namespace: str) -> Remains:
    from cdmo.kube.connect import ConnectSettings, connect
    from cdmo.kube.settling import PlanningHold, settle
    from cdmo.runtime.clock import SystemClock

    clock = SystemClock()
    async with connect(ConnectSettings(kubeconfig), os.environ) as connection:
        hold = PlanningHold(connection, lease_namespace, clock) if hold_planning else None
        return await settle(connection, clock, wait, hold)
