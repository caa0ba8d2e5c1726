"""`cdmo doctor`: what stands between this cluster and MIG slices on demand, and the fix. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Annotated, Any

import typer

from cdmo.cli._options import Kubeconfig, OutputOption
from cdmo.cli._output import Output, print_json
from cdmo.doctor import Finding, Status, diagnose
from cdmo.text import printable

WIDTH = 80  # columns
READ_LIMIT = 120.0  # seconds
AGAIN = 5.0  # seconds between two looks
MOST_OF_A_CHECK = 10  # findings that are shown; a fault of every Node is understood by then
_STATUS, _CHECK = 9, 20  # columns of the first two words


def doctor(
    kubeconfig: Kubeconfig = None,
    output: OutputOption = Output.TABLE,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit status 0 whatever is found: for a job that only writes it down.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", min=0.0, help="Seconds to look again while there are errors: what is new has to start."
        ),
    ] = 0.0,
) -> None:
    """Check the cluster: CDMO's parts, the GPU nodes, NVIDIA's gpu-operator, others that cut GPUs. Changes nothing.

    Exit status 0: nothing hinders slices (there may be warnings). 1: an error was found, or the cluster is silent.
    """
    findings = asyncio.run(_look(kubeconfig, wait))
    if output is Output.JSON:
        print_json(as_json(findings))
    else:
        for line in lines(findings):
            typer.echo(line)
    if not exit_zero and any(each.status is Status.ERROR for each in findings):
        raise typer.Exit(1)


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings for issue reports and programs."""
    return [
        {
            "check": each.check,
            "status": str(each.status),
            "object": printable(each.object),
            "sentence": printable(each.sentence),
            "fix": printable(each.fix),
        }
        for each in findings
    ]


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings for people, 80 columns wide: what is wrong with its fix below it, and a summary."""
    counts = dict.fromkeys(Status, 0)
    for check, answers in groupby(findings, lambda each: each.check):
        told = 0
        for each in answers:
            counts[each.status] += 1
            told += 1
            if told <= MOST_OF_A_CHECK:
                yield from _lines(each)
        if told > MOST_OF_A_CHECK:
            yield f"{'':<{_STATUS}}and {told - MOST_OF_A_CHECK} more of {check}: `-o json` has them all"
    yield ""
    errors, warnings, fine = (counts[each] for each in (Status.ERROR, Status.WARNING, Status.OK))
    yield f"{_count(errors, 'error')}, {_count(warnings, 'warning')}, {_count(fine, 'check')} without."


def _lines(finding: Finding) -> Iterator[str]:
    head = f"{finding.status:<{_STATUS}}{finding.check:<{_CHECK}}"
    if finding.status is Status.OK:
        yield from _wrapped(finding.sentence, head)
        return
    if len(head) + len(finding.object) >= WIDTH:  # a long name is not broken
        yield head.rstrip()
        head = " " * _STATUS
    yield from _wrapped(f"{finding.object}: {finding.sentence}", head)
    yield from _wrapped(finding.fix, f"{'':<{_STATUS}}fix: ")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _wrapped(text: str, head: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * (_STATUS + 2),
        break_on_hyphens=False,
        break_long_words=False,
    )


async def _look(kubeconfig: Kubeconfig, wait: float) -> list[Finding]:
    from cdmo.kube.connect import ConnectSettings, connect
    from cdmo.kube.doctor_reader import read_facts
    from cdmo.runtime.clock import SystemClock

    clock = SystemClock()
    end = clock.monotonic() + wait
    async with connect(ConnectSettings(kubeconfig), os.environ) as connection:
        while True:
            findings = list(diagnose(await read_facts(connection, clock.now(), READ_LIMIT)))
            if clock.monotonic() >= end or not any(each.status is Status.ERROR for each in findings):
                return findings
            await clock.sleep(AGAIN)
