"""Pods that can never run are told so, once, and keep nobody from anything."""

from __future__ import annotations

import pytest

from tests.end_to_end.bed import SOON, Bed

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(90),
    pytest.mark.simulated_kubelet(reason="pods that are told why they wait never reach a kubelet"),
]

WISHES = {
    "no-such-profile": ({"nvidia.com/mig-1g.5gb": 1}, "NoSuchProfile: no managed card can be cut into"),
    "never-together": ({"nvidia.com/mig-1g.6gb": 1, "nvidia.com/mig-1g.10gb": 1}, "NeverFits: asks for"),
    "absurd": ({"nvidia.com/mig-1g.10gb": 1_000_000}, "AbsurdCount: asks for 1000000 of nvidia.com/mig-1g.10gb"),
    "no-profile-at-all": ({"nvidia.com/mig-": 1}, ""),
    "no-mig-resource": ({"nvidia.com/mig-banana": 3}, "NoSuchProfile: no managed card can be cut into"),
}


async def test_a_pod_that_can_never_run_gets_one_event_with_a_sentence_and_others_are_served(bed: Bed) -> None:
    refused = {"no-profile-at-all"}  # the API server itself refuses a name that ends like this
    told = {name: words for name, (_, words) in WISHES.items() if name not in refused}
    hardware = {name: bed.hardware(name) for name in bed.cluster.nodes}
    for name in told:
        await bed.submit_asking(name, WISHES[name][0])
    await bed.view.wait(
        "each is told why it waits", lambda: all(bed.waiting_events(name) for name in told), limit=SOON
    )
    assert {name: bed.hardware(name) for name in bed.cluster.nodes} == hardware

    await bed.running(await bed.submit("reasonable", "2g.20gb"))
    for name, words in told.items():
        (event,) = bed.waiting_events(name)
        assert event["note"].startswith(words)
        assert event["type"] == "Warning"
        assert event["reportingController"] == "cdmo-controller"
        assert bed.view.pods[f"default/{name}"].phase == "Pending"


async def test_a_pod_that_waits_for_room_is_told_what_is_in_its_way_and_runs_when_that_ends(bed: Bed) -> None:
    await bed.running(await bed.submit("occupant", "1g.6gb", node="gpu-3"))
    await bed.submit("waits", "4g.24gb")
    await bed.view.wait("the pod is told why it waits", lambda: bool(bed.waiting_events("waits")), limit=SOON)
    (event,) = bed.waiting_events("waits")
    assert event["note"].startswith("NoRoom: needs 4 free slots in a row; best is node gpu-3 GPU")
    assert "default/occupant" in event["note"]
    await bed.end("default/occupant")
    await bed.running("default/waits")
