"""The sentences the controller writes into Events."""

from __future__ import annotations

from cdmo.controller import events
from cdmo.kube.port import Involved
from cdmo.model.plan import Waiting
from cdmo.model.reasons import EventReason, WaitingCode
from tests.builders import BUS, assigned, key

TRAIN = Involved("Pod", "train", "ml", "uid-train")


def test_a_pod_that_waits_is_warned_with_code_and_reason() -> None:
    event = events.waiting(Waiting(key("train"), WaitingCode.NO_ROOM, "8 slots are in the way"))
    assert event.involved == TRAIN
    assert (event.reason, event.warning) == (EventReason.WAITING, True)
    assert event.message == "NoRoom: 8 slots are in the way"


def test_a_planned_pod_is_told_node_and_gpu() -> None:
    event = events.planned(assigned("train", "gpu-1", "3g.40gb@4"))
    assert (event.involved, event.reason, event.warning) == (TRAIN, EventReason.PLANNED, False)
    assert event.message == f"its MIG slices are being cut on node gpu-1, GPU {BUS[0]}"


def test_slices_that_are_there_already_are_not_said_to_be_cut() -> None:
    event = events.planned(assigned("train", "gpu-1", "3g.40gb@4", action="reuse"))
    assert event.message == f"its MIG slices are there on node gpu-1, GPU {BUS[0]}"


def test_a_pod_tried_in_vain_is_told_how_long_and_what_to_look_at() -> None:
    event = events.in_vain(assigned("train", "gpu-1", "3g.40gb@4"), 30.0)
    assert (event.involved, event.reason, event.warning) == (TRAIN, EventReason.WAITING, True)
    assert "on node gpu-1" in event.message
    assert "within 30 s" in event.message
    assert "kubectl describe pod" in event.message
