"""The judge convicts agents that destroy slices in use."""

from __future__ import annotations

import io

import pytest
from cdmo_harness.binaries import Binaries
from cdmo_harness.chaos.kinds import KINDS
from cdmo_harness.chaos.progress import Progress
from cdmo_harness.chaos.run import Options, run
from rich.console import Console

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

HARMLESS = tuple(each for each in KINDS if each.name == "no bookmarks")


async def test_agents_that_do_not_ask_who_uses_a_slice_are_convicted(binaries: Binaries) -> None:
    options = Options(seed=1, minutes=0.25, pods=1000, kinds=HARMLESS, drain=1.0, rest=1.0, fill=1.0, careless=True)
    progress = Progress(Console(file=io.StringIO()))
    summary = await run(binaries, options, progress, lambda _: None, keep=False)
    assert not summary.ok
    assert "destroy of a slice in use" in {each.what for each in summary.violations}
