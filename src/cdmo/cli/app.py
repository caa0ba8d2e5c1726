"""The `cdmo` command: what it can do, one line each. The verbs live in modules of their own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cdmo.cli import (
    agent,
    controller,
    crd,
    disable,
    discover,
    doctor,
    enable,
    gpu_operator,
    plan,
    settle,
    simulate,
    status,
)
from cdmo.cli._output import print_error
from cdmo.errors import CdmoError
from cdmo.version import __version__

app = typer.Typer(
    name="cdmo",
    help="The open Dynamic MIG Operator: cuts NVIDIA GPUs into MIG slices on demand for Kubernetes pods.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="status")(status.status)
app.command(name="doctor")(doctor.doctor)
app.command(name="enable")(enable.enable)
app.command(name="disable")(disable.disable)
app.command(name="plan")(plan.plan)
app.command(name="discover")(discover.discover)
app.command(name="simulate")(simulate.simulate)
app.command(name="settle")(settle.settle)
app.command(name="crd")(crd.crd)
app.add_typer(gpu_operator.gpu_operator, name="gpu-operator")
app.command(name="controller")(controller.controller)
app.command(name="agent")(agent.agent)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"cdmo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of every verb."""


def main() -> None:
    """Run the command line: exit 0 done, 1 a failure with `error:` and `hint:` on stderr, 2 wrong usage."""
    try:
        app()
    except CdmoError as error:
        print_error(error)
        sys.exit(1)
