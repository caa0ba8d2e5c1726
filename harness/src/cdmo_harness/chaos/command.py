"""The command line of chaos: options, exit status, and what goes to stdout and what to stderr."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Annotated

import typer
from rich.console import Console

from cdmo.cli._output import Output, print_error
from cdmo.errors import CdmoError
from cdmo_harness.binaries import CONTROL_PLANE, Binaries, find_binaries
from cdmo_harness.build_progress import show_progress
from cdmo_harness.chaos.kinds import KINDS
from cdmo_harness.chaos.progress import Progress
from cdmo_harness.chaos.run import Options, run
from cdmo_harness.chaos.summary import Summary, as_json, as_text
from cdmo_harness.demo.stage import save_logs
from cdmo_harness.demo.steps import configure_logging
from cdmo_harness.local_cluster import LocalCluster
from cdmo_harness.run_folder import cleanup_leftovers

_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM


def command(
    seed: Annotated[int, typer.Option(help="Names the schedule of faults and the pods.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults come.")] = 5.0,
    pods: Annotated[int, typer.Option(min=1, help="Stop submitting after so many pods.")] = 1_000_000,
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the answer on stdout.")] = Output.TABLE,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with all logs and data behind.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only print the seed's schedule of faults.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the harness' log lines.")] = False,
) -> None:
    """Faults without end on a local cluster, while pods come and go, judged from outside CDMO.

    Needs neither a GPU nor root. Exit status: 0 nothing happened that must not, 1 something did, 130 interrupted.
    """
    options = Options(seed, minutes, pods, KINDS)
    if plan:
        for each in options.planned:
            sys.stdout.write(f"{each.begins:7.1f} s  {each.lasts:5.1f} s  {each.kind}: {each.target}\n")
        return
    console = Console(stderr=True)
    configure_logging(console, "debug" if verbose else "error")
    try:
        with show_progress(console) as progress:
            binaries = find_binaries(CONTROL_PLANE, environment=os.environ, progress=progress)
        cleanup_leftovers()
        summary = asyncio.run(_run(binaries, options, Progress(console), keep=keep))
    except (KeyboardInterrupt, asyncio.CancelledError) as ended:
        raise typer.Exit(_INTERRUPTED if isinstance(ended, KeyboardInterrupt) else _TERMINATED) from ended
    except CdmoError as error:
        print_error(error)
        raise typer.Exit(1) from error
    sys.stdout.write(as_json(summary) if output is Output.JSON else as_text(summary))
    raise typer.Exit(0 if summary.ok else 1)


async def _run(binaries: Binaries, options: Options, progress: Progress, *, keep: bool) -> Summary:
    task = asyncio.current_task()
    assert task is not None, "runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    def save(cluster: LocalCluster) -> None:
        progress.say(f"logs: {save_logs(cluster, keep_files=keep)}")

    return await run(binaries, options, progress, save, keep=keep)
