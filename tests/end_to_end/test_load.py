"""Continuous load that keeps nodes changing: the fence lets nobody come to harm (benchmarks/real_kubelet: at length,
and what the same load does without the fence)."""

from __future__ import annotations

import pytest
from cdmo_harness.load import Load, LoadSettings

from tests.end_to_end.bed import Bed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

REPARTITIONS = 15
LIMIT = 240.0  # seconds; a quarter of a minute on an idle machine


async def test_under_load_no_pod_is_refused_and_none_gets_a_slice_that_is_gone(bed: Bed) -> None:
    tally = await Load(bed.cluster, bed.view, LoadSettings(seed=20261124)).run(REPARTITIONS, limit=LIMIT)
    assert tally.repartitions >= REPARTITIONS
    assert tally.succeeded > 0
    assert not tally.failed
    assert tally.harmed == 0
