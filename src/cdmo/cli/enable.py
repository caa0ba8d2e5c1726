"""`cdmo enable`: give nodes to CDMO."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from cdmo.cli._options import Kubeconfig
from cdmo.handover.enable import Coming
from cdmo.model.modes import ModePolicy
from cdmo.text import printable

Nodes = Annotated[list[str], typer.Argument(metavar="NODE...", help="Names, as `kubectl get nodes` shows them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reset = Annotated[
    bool,
    typer.Option(
        "--reset",
        help="Reset GPUs whose MIG mode needs it (Ampere), and stop NVIDIA's programs on the node for that long.",
    ),
]


def enable(
    nodes: Nodes,
    reset: Reset = False,
    manual: Annotated[
        bool, typer.Option("--manual", help="Leave MIG mode as it is: GPUs without it stay whole.")
    ] = False,
    dry_run: DryRun = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds to wait, for each node.")] = 300.0,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Give nodes to CDMO: MIG mode on where nothing uses the GPU, the label, and the wait until the agent is ready.

    Safe to interrupt and to repeat. Exit status 0: the nodes are CDMO's. 1: not (yet), with the reason.
    """
    if reset and manual:
        raise typer.BadParameter("--reset and --manual exclude each other")
    modes = ModePolicy.WITH_RESET if reset else ModePolicy.MANUAL if manual else ModePolicy.WHEN_IDLE
    asyncio.run(_enable(kubeconfig, tuple(dict.fromkeys(nodes)), Coming(modes, timeout), dry_run))


async def _enable(kubeconfig: Path | None, nodes: tuple[str, ...], coming: Coming, dry_run: bool) -> None:
    from cdmo.handover.enable import Enabler
    from cdmo.kube.connect import ConnectSettings, connect
    from cdmo.kube.handover_api import KubeHandover
    from cdmo.runtime.clock import SystemClock

    async with connect(ConnectSettings(kubeconfig), os.environ) as connection:
        enabler = Enabler(KubeHandover(connection), SystemClock(), say)
        for each in nodes:
            await enabler.check(each)
        for each in nodes:
            if dry_run:
                for line in await enabler.plan(each, coming):
                    say(line)
            else:
                await enabler.run(each, coming)


def say(line: str) -> None:
    """One line of progress, at once."""
    typer.echo(printable(line))
