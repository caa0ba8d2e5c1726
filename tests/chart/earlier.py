"""The chart as it was committed before: what an administrator has who upgrades to this checkout."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.chart.helm import CHART, REPOSITORY

_PLACE = CHART.relative_to(REPOSITORY)
_GIT_S = 60


def earlier_chart(folder: Path) -> Path:
    """The newest committed chart that differs from this checkout's, laid into `folder`; this checkout's own where
    there is none: a clone without history, no clone at all, or the commit that brought the chart."""
    for commit in _commits():
        if _git("cat-file", "-e", f"{commit}:{_PLACE}/Chart.yaml").returncode != 0:
            continue
        if _git("diff", "--quiet", commit, "--", str(_PLACE)).returncode == 0:
            continue
        archive = _git("archive", "--format=tar", commit, str(_PLACE))
        archive.check_returncode()
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        return folder / _PLACE
    return CHART


def _commits() -> Iterator[str]:
    """Those in which the chart may be another one, newest first."""
    touched = _git("log", "--format=%H %P", "--", str(_PLACE))
    if touched.returncode != 0:
        return
    yield "HEAD"
    for line in touched.stdout.decode().splitlines():
        yield from line.split()


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, timeout=_GIT_S, check=False)
    except FileNotFoundError:  # an unpacked archive on a machine without git
        return subprocess.CompletedProcess(arguments, 127, b"", b"")
