"""`cdmo disable`: take nodes back from CDMO, their GPUs whole."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from cdmo.cli._options import Kubeconfig
from cdmo.cli.enable import DryRun, Nodes, Reset, say
from cdmo.handover.disable import Leaving

# What is left of the page once its steps 1 to 3 are done.
AFTERWARDS = """
These nodes are done. When no node is left to CDMO, tell the gpu-operator:

  cdmo gpu-operator values --off > gpu-operator.override.yaml
  helm upgrade -n gpu-operator gpu-operator nvidia/gpu-operator -f gpu-operator.override.yaml
"""


def disable(
    nodes: Nodes,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the pods that use the GPUs to end.")] = False,
    drain: Annotated[
        bool, typer.Option("--drain", help="Evict the pods that use the GPUs; their PodDisruptionBudgets are heeded.")
    ] = False,
    reset: Reset = False,
    dry_run: DryRun = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds for each node, once no pod uses its GPUs.")
    ] = 600.0,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Take nodes back from CDMO: slices destroyed, MIG mode off, whole GPUs offered again, the label off.

    Refuses while pods use the GPUs, unless told to wait or to evict them. Safe to interrupt and to repeat. Exit
    status 0: the GPUs are whole. 1: not (yet), with the reason.
    """
    asyncio.run(_disable(kubeconfig, tuple(dict.fromkeys(nodes)), Leaving(wait, drain, reset, timeout), dry_run))


async def _disable(kubeconfig: Path | None, nodes: tuple[str, ...], leaving: Leaving, dry_run: bool) -> None:
    from cdmo.handover.disable import Disabler
    from cdmo.kube.connect import ConnectSettings, connect
    from cdmo.kube.handover_api import KubeHandover
    from cdmo.runtime.clock import SystemClock

    async with connect(ConnectSettings(kubeconfig), os.environ) as connection:
        disabler = Disabler(KubeHandover(connection), SystemClock(), say)
        for each in nodes:
            await disabler.check(each, leaving)
        for each in nodes:
            if dry_run:
                for line in await disabler.plan(each):
                    say(line)
            else:
                await disabler.run(each, leaving)
    if not dry_run:
        typer.echo(AFTERWARDS, nl=False)
