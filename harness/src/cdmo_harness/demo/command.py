"""The command line of the demo: options, exit status, and what goes to stdout and what to stderr."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cdmo.cli._output import Output, print_error
from cdmo.errors import CdmoError
from cdmo_harness.binaries import CONTROL_PLANE, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.demo.answer import answer, as_json
from cdmo_harness.demo.run import Demo, Options
from cdmo_harness.demo.steps import Steps, configure_logging

_INTERRUPTED = 128 + signal.SIGINT


def command(
    once: Annotated[bool, typer.Option("--once", help="End after the last wave also on a terminal.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the answer on stdout.")] = Output.TABLE,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with all logs and data behind.")] = False,
    device_plugin: Annotated[
        Path | None,
        typer.Option(help="A real NVIDIA device plugin in place of the stand-in; needs root.", exists=True),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show log lines and the processes' memory.")] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Save the last picture of the GPUs and pods.")
    ] = None,
) -> None:
    """CDMO at work on this machine: a real Kubernetes control plane, simulated GPUs, ClearML's own agent.

    Needs neither a GPU nor root. Exit status: 0 all went as promised, 1 it did not, 130 interrupted.
    """
    console = Console(stderr=True)
    configure_logging(console, "debug" if verbose else "warning")
    options = Options(once, output, keep, device_plugin, verbose, record)
    demo: Demo | None = None
    try:
        # In this thread, so that Ctrl-C ends a build at once.
        with show_progress(console) as progress:
            binaries = find_binaries(CONTROL_PLANE, environment=os.environ, progress=progress)
        demo = Demo(binaries, options, Steps(console))
        status = asyncio.run(demo.run())
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except CdmoError as error:
        status = 1
        if output is Output.JSON and not (demo and demo.answered):
            sys.stdout.write(as_json(answer(False, (), ())))  # whoever reads it as JSON gets an object anyway
        print_error(error)
        if demo and demo.logs:
            sys.stderr.write(f"logs: {demo.logs}\n")
    raise typer.Exit(status)
