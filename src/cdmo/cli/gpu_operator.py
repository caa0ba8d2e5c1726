"""`cdmo gpu-operator`: what NVIDIA's gpu-operator has to be told so that CDMO can work beside it."""

from __future__ import annotations

from typing import Annotated

import typer

from cdmo.gpu_operator import Distribution, Wanted, chart_version, override
from cdmo.gpu_operator.chart import note_on

gpu_operator = typer.Typer(help="What NVIDIA's gpu-operator has to be told.", no_args_is_help=True)


@gpu_operator.callback()
def _root() -> None:
    """What NVIDIA's gpu-operator has to be told."""


@gpu_operator.command()
def values(
    off: Annotated[bool, typer.Option("--off", help="The values that bring whole GPUs back, after CDMO.")] = False,
    k3s: Annotated[bool, typer.Option("--k3s", help="For k3s: where its containerd listens.")] = False,
    microk8s: Annotated[bool, typer.Option("--microk8s", help="For MicroK8s: where its containerd is.")] = False,
    chart: Annotated[
        str | None,
        typer.Option(
            "--chart-version",
            metavar="VERSION",
            help="Of the gpu-operator's chart, as in 25.10. Default: good for any.",
        ),
    ] = None,
) -> None:
    """Print an override file for the gpu-operator's chart, with the reason for each line that the guide lacks:
    cdmo gpu-operator values > gpu-operator.override.yaml"""
    if k3s and microk8s:
        raise typer.BadParameter("--k3s and --microk8s exclude each other")
    version = None if chart is None else chart_version(chart)
    where = Distribution.K3S if k3s else Distribution.MICROK8S if microk8s else Distribution.KUBERNETES
    typer.echo(override(Wanted(not off, where, version)), nl=False)
    if version is not None and (note := note_on(version)):
        typer.echo(f"note: {note}", err=True)
