"""What counts as a violation, and which pods are lost whatever CDMO does."""

from __future__ import annotations

import pytest
from cdmo_harness.chaos.judge import excuse, missing_devices, refused
from cdmo_harness.chaos.load import Ending
from cdmo_harness.chaos.stage import Window
from cdmo_harness.driver import GpuSnapshot, SliceSnapshot
from cdmo_harness.kubelet.runtime import RunningPod

UNHEALTHY = "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices"
UNKNOWN = 'Pod was rejected: Allocate failed due to invalid allocation request: unknown device: MIG-1, which is "x"'
TOO_FEW = (
    "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/mig-7g.80gb. "
    "Requested: 1, Available: 0, which is unexpected"
)
WINDOW = Window("gpu-1", "kubelet restarted", began=100.0, ended=105.0)
ANSWERS_LOST = Window("gpu-1", "API server killed", began=100.0, ended=105.0, destroyed=7)


def ending(
    message: str = UNHEALTHY,
    *,
    node: str = "gpu-1",
    bound_at: float | None = 102.0,
    ended_at: float = 103.0,
    phase: str = "Failed",
    reason: str = "UnexpectedAdmissionError",
    deleted: bool = False,
    destroyed: int = 7,
) -> Ending:
    return Ending("default/pod-1", phase, node, reason, message, bound_at, ended_at, deleted, destroyed)


def test_a_pod_bound_while_the_kubelet_restarts_is_lost_to_that() -> None:
    assert excuse(ending(), [WINDOW]) == "kubelet restarted"


def test_one_bound_then_and_refused_late_is_lost_to_that_too() -> None:
    assert excuse(ending(ended_at=160.0), [WINDOW]) == "kubelet restarted"


@pytest.mark.parametrize(
    "lost",
    [
        ending(node="gpu-2"),
        ending(bound_at=50.0, ended_at=60.0),
        ending(bound_at=115.0, ended_at=116.0),
        ending(UNKNOWN),
        ending("Pod was rejected: Node didn't have enough resource: nvidia.com/mig-1g.10gb"),
    ],
    ids=["another node", "before", "after", "a slice that is gone", "no room"],
)
def test_any_other_refused_pod_has_no_excuse(lost: Ending) -> None:
    assert excuse(lost, [WINDOW]) == ""
    violations, excused = refused([lost], [WINDOW])
    assert [each.what for each in violations] == ["pod failed by admission"]
    assert not excused


def test_a_slice_that_the_scheduler_gave_to_two_pods_as_an_answer_was_lost_is_no_violation() -> None:
    assert excuse(ending(TOO_FEW), [ANSWERS_LOST]) == "API server killed"


def test_the_scheduler_may_go_on_by_what_it_knew_for_long_after() -> None:
    assert excuse(ending(TOO_FEW, bound_at=136.0, ended_at=137.0), [ANSWERS_LOST]) == "API server killed"


@pytest.mark.parametrize(
    "lost",
    [ending(TOO_FEW, destroyed=8), ending(TOO_FEW, bound_at=175.0, ended_at=176.0), ending(UNHEALTHY)],
    ids=["a slice was destroyed since", "long after", "devices that are not healthy"],
)
def test_a_lost_answer_excuses_nothing_else(lost: Ending) -> None:
    assert excuse(lost, [ANSWERS_LOST]) == ""


def test_a_window_that_still_lasts_excuses() -> None:
    assert excuse(ending(ended_at=10_000.0), [Window("gpu-1", "plugin gone", began=100.0)]) == "plugin gone"


def test_a_pod_that_a_user_deleted_while_it_ran_is_no_violation() -> None:
    assert refused([ending("", reason="", deleted=True)], []) == ([], {})


def test_a_pod_that_a_user_deleted_and_the_kubelet_refused_is_one() -> None:
    assert refused([ending(UNKNOWN, deleted=True)], [])[0]


def test_a_pod_that_died_or_whose_object_went_is_a_violation() -> None:
    violations, _ = refused([ending("", reason=""), ending("", reason="", phase="Gone")], [WINDOW])
    assert [each.what for each in violations] == ["pod died", "pod's object went away"]


def gpu(**slices: int) -> GpuSnapshot:
    """A GPU with these slices, by the processes on each."""
    return GpuSnapshot(
        index=0,
        card="H100-SXM5-80GB",
        uuid="GPU-1",
        pci_bus_id="00000000:10:00.0",
        minor=0,
        mig_enabled=True,
        mig_pending=True,
        lost=False,
        processes=sum(slices.values()),
        slices=tuple(
            SliceSnapshot(number, 0, 19, "1g.10gb", number, 1, uuid, True, processes)
            for number, (uuid, processes) in enumerate(slices.items())
        ),
    )


def running(*uuids: str) -> RunningPod:
    return RunningPod("uid", "default", "pod-1", ("main",), 0.0, 0.0, tuple((uuid, 5_000_000) for uuid in uuids))


def test_a_pod_whose_slices_are_all_there_misses_nothing() -> None:
    assert missing_devices([running("a", "b")], [gpu(a=1), gpu(b=1)]) == {}


def test_a_pod_whose_slice_was_destroyed_is_found() -> None:
    assert missing_devices([running("a", "b")], [gpu(a=1)]) == {"default/pod-1": "b"}


def test_a_slice_that_came_back_with_the_same_uuid_but_without_the_process_is_found() -> None:
    assert missing_devices([running("a")], [gpu(a=0)]) == {"default/pod-1": "a"}
