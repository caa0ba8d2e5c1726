"""`cdmo discover`: what this host's GPUs can be cut into, asked of the driver. Changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cdmo.cli._options import OutputOption
from cdmo.cli._output import Output, print_json, print_table
from cdmo.text import printable


def discover(
    root: Annotated[
        Path, typer.Option("--root", envvar="HOST_ROOT", help="Where the host's root file system is.")
    ] = Path("/"),
    driver_root: Annotated[
        str, typer.Option("--driver-root", help="Where on the host the driver lies. Default: looked for.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the GPUs of this host and the MIG profiles they offer, as NVML reports them."""
    from cdmo.hardware.discovery import DISCOVERY_COLUMNS, discovery_as_json, discovery_tables
    from cdmo.hardware.library import DriverSearch
    from cdmo.hardware.nvml import NvmlGpus
    from cdmo.runtime.hostpaths import HostPaths
    from cdmo.runtime.logging import configure_logging

    configure_logging("discover", "warning")
    search = DriverSearch(HostPaths(root), driver_root)
    reading = NvmlGpus(lambda: search().library, time.sleep).read()
    if output is Output.JSON:
        print_json(discovery_as_json(reading))
    else:
        for title, rows in discovery_tables(reading):
            typer.echo(printable(title))
            print_table(DISCOVERY_COLUMNS, rows)
