"""What the demo calls wrong: each promise broken alone is found, and a run that kept all of them is well."""

from __future__ import annotations

import pytest
from cdmo_harness.demo.evidence import BusySlice, Evidence, problems
from cdmo_harness.kubelet.counters import Counts

from tests.demo.builders import counters, evidence, outcome, repartition, wave

BUSY = BusySlice("gpu-1", "MIG-busy", gpu_instance=1, processes=1)
OTHER_INSTANCE = BusySlice("gpu-1", "MIG-busy", gpu_instance=2, processes=1)


def test_a_run_that_kept_every_promise_has_no_problem() -> None:
    recut = wave(outcome("notebook"), changed=("gpu-1",), before=(BUSY,), after=(BUSY,))
    assert problems(evidence(recut)) == []


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (
            evidence(wave(outcome("train", phase="Failed", message="no devices"))),
            "pod train failed: no devices",
        ),
        (evidence(wave(outcome("train", phase="Pending", seconds=None))), "pod train never ran"),
        (evidence(wave(outcome("train", device=""))), "pod train ran without a slice"),
        (evidence(wave(before=(BUSY,))), "busy slice MIG-busy of gpu-1 did not stay as it was"),
        (
            evidence(wave(before=(BUSY,), after=(OTHER_INSTANCE,))),
            "busy slice MIG-busy of gpu-1 did not stay as it was",
        ),
        (
            evidence(wave(outcome("train", reused=True), changed=("gpu-1",))),
            "pod train reused an idle slice, and yet gpu-1 was re-cut",
        ),
        (evidence(driver=counters(destroyed=0)), "no GPU was re-cut: no GPU instance was ever destroyed"),
        (evidence(driver=counters(in_use_attempts=1)), "1 times a slice in use was to be destroyed on gpu-1"),
        (evidence(repartitions=()), "no repartition was reported"),
        (
            evidence(repartitions=(repartition("Undone", "the plugin is stuck"),)),
            "a repartition of gpu-1 ended Undone: the plugin is stuck",
        ),
        (
            evidence(kubelet=Counts(admission_failures={"UnexpectedAdmissionError": 2})),
            "the kubelet of gpu-1 refused 2 pods: UnexpectedAdmissionError",
        ),
        (
            evidence(kubelet=Counts(admitted_without_device=1)),
            "the kubelet of gpu-1 let 1 pods run without the slice they asked for",
        ),
        (
            evidence(kubelet=Counts(started_on_dead_device=1)),
            "the kubelet of gpu-1 gave 1 pods a slice that was gone",
        ),
    ],
)
def test_a_broken_promise_is_named(seen: Evidence, problem: str) -> None:
    assert problems(seen) == [problem]


def test_a_node_that_was_cut_for_another_pod_of_the_wave_does_not_speak_against_reuse() -> None:
    both = wave(outcome("first", reused=True), outcome("second"), changed=("gpu-1",))
    assert problems(evidence(both)) == []


def test_a_run_in_which_no_slice_was_reused_shows_too_little() -> None:
    seen = evidence()
    without = Evidence(seen.waves[1:], seen.repartitions, seen.drivers, seen.kubelets)
    assert problems(without) == ["no pod reused an idle slice"]
