"""A MigNode edited into nonsense: refused by the schema, or told in a condition; nothing is destroyed."""

from __future__ import annotations

from typing import Any

import pytest
from cdmo_harness.errors import ControlPlaneError

from tests.end_to_end.bed import SOON, Bed, layout_of

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(90),
    pytest.mark.simulated_kubelet(
        reason="a spec is judged by the API server and by the agent; no kubelet takes part"
    ),
]

NODE = "gpu-1"
GPU_0, GPU_1 = "00000000:10:00.0", "00000000:20:00.0"


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ([layout_of(GPU_0, (9, -1))], "should be greater than or equal to 0"),
        ([layout_of(GPU_0, (9, 0)), layout_of(GPU_0)], "Duplicate value"),
        ([layout_of(GPU_0, (9, 0), (19, 0))], "Duplicate value"),
        ([layout_of("GPU 0", (9, 0))], "should match"),
        ([layout_of(GPU_0, *((19, start) for start in range(17)))], "must have at most 16 items"),
    ],
    ids=["negative-start", "duplicate-gpu", "duplicate-start", "no-bus-id", "too-many"],
)
async def test_the_schema_refuses_what_no_gpu_could_be(gpus: list[dict[str, Any]], words: str, bed: Bed) -> None:
    generation = bed.view.mignodes[NODE].metadata.generation
    with pytest.raises(ControlPlaneError, match=words):
        await bed.write_spec(NODE, gpus)
    assert bed.view.mignodes[NODE].metadata.generation == generation


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ([layout_of(GPU_0, (9, 0), (19, 1))], GPU_0),
        ([layout_of(GPU_0, (9, 2))], GPU_0),
        ([layout_of(GPU_0, (999, 0))], GPU_0),
        ([layout_of("00000000:99:00.0", (9, 0))], "no GPU 00000000:99:00.0"),
    ],
    ids=["overlap", "bad-start", "no-such-profile", "no-such-gpu"],
)
async def test_a_layout_that_cannot_exist_is_told_destroys_nothing_and_is_written_over(
    gpus: list[dict[str, Any]], words: str, bed: Bed
) -> None:
    await bed.lay_out(NODE, [(9, 0)], [(19, 0)])
    busy = await bed.running(await bed.submit("busy", "3g.40gb", node=NODE))
    there = bed.slices(NODE)
    with bed.paused_controllers():  # else it may be written over before the agent sees it
        await bed.write_spec(NODE, gpus)
        await bed.view.wait("the node is not ready", lambda: bed.condition(NODE).status == "False", limit=SOON)
        assert bed.condition(NODE).reason == "BadSpec"
        assert words in bed.condition(NODE).message
        assert bed.slices(NODE) == there

    # The controller plans from what is there and writes that over the nonsense.
    await bed.running(await bed.submit("newcomer", "2g.20gb", 3, node=NODE))
    await bed.view.wait("the node is ready", lambda: bed.condition(NODE).status == "True", limit=SOON)
    assert bed.slice_of(busy) == there[0, 9, 0]


async def test_a_mignode_deleted_by_hand_comes_back_and_no_slice_goes(bed: Bed) -> None:
    await bed.lay_out(NODE, [(9, 0)], [])
    busy = await bed.running(await bed.submit("busy", "3g.40gb", node=NODE))
    there, uid = bed.slices(NODE), bed.view.mignodes[NODE].metadata.uid
    api = bed.cluster.control_plane.api
    api.delete(f"/apis/cdmo.clear.ml/v1alpha1/mignodes/{NODE}")
    await bed.view.wait(
        "it is back with a status",
        lambda: bed.view.mignodes[NODE].metadata.uid != uid and bool(bed.view.mignodes[NODE].status.gpus),
        limit=SOON,
    )
    assert bed.slices(NODE) == there
    await bed.running(await bed.submit("beside", "4g.40gb", node=NODE))
    assert bed.slice_of(busy) == there[0, 9, 0]
