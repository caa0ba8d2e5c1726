"""The real controller lifts a silent agent's fence in the writes of which the model consists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cdmo.controller.fences import FenceSettings
from cdmo.model.cluster import Taint
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT
from tests.builders import h100, node
from tests.controller.bench import Bench
from tests.protocol.catalogue import BARE
from tests.protocol.cluster import controller
from tests.protocol.rules import Rules
from tests.protocol.state import KNOWS, Api

LIFTING = Rules(replace(BARE, lifts=True, pauses=True))


def writes_of_the_model(label: str, tainted: bool) -> Iterator[str]:
    """What the model's controller does about a fence that was left like this."""
    api = Api(bool(label), label == FENCE_CHANGING, tainted, (0, 0), KNOWS)
    while moves := controller(LIFTING, api, "idle"):
        api = moves[-1].api
        yield "unfence"


@pytest.mark.parametrize("label", [FENCE_VALUE, FENCE_CHANGING, ""])
@pytest.mark.parametrize("tainted", [True, False])
async def test_the_controller_writes_what_the_models_controller_writes(label: str, tainted: bool) -> None:
    bench = Bench(node("gpu-1", [h100()]))
    taints = (Taint(REPARTITIONING_TAINT, "", "NoSchedule"),) if tainted else ()
    labels = {**bench.fence_api.info.labels, **({FENCE_LABEL: label} if label else {})}
    bench.fence_api.info = replace(bench.fence_api.info, labels=labels, taints=taints)
    bench.nodes["gpu-1"] = replace(bench.fence_api.info, name="gpu-1", uid="uid-gpu-1")
    await bench.loop.round()
    bench.clock.jump(FenceSettings().silent_seconds)
    await bench.loop.round()
    assert bench.fence_api.calls == list(writes_of_the_model(label, tainted))
