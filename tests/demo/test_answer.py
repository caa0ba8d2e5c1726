"""The demo's answer, to the letter."""

from __future__ import annotations

import json

from cdmo_harness.demo.answer import WIDTH, answer, as_json, as_tables

from tests.demo.builders import outcome, repartition

PODS = [
    outcome(
        "clearml-id-finetune",
        queue="slice-4",
        resource="nvidia.com/mig-4g.40gb",
        device="MIG-a",
        seconds=0.61234,
    ),
    outcome("notebook", seconds=0.5, reused=True),
    outcome("late", node="", device="", seconds=None, phase="Pending"),
]
CHANGES = [("gpu-1", repartition())]

TABLES = """\
Seconds from created to Running

POD                  QUEUE    RESOURCE     NODE   SECONDS  HOW
clearml-id-finetune  slice-4  mig-4g.40gb  gpu-1     0.61  cut
notebook             -        mig-3g.40gb  gpu-1     0.50  reused
late                 -        mig-3g.40gb               -

median of 2 pods: 0.56 s

Repartitions: no pod can be bound to the node while it is fenced

NODE   FENCED s  GPU s  RELOAD s
gpu-1      0.41   0.15      0.10
"""


def test_the_json_has_exactly_the_keys_that_programs_were_promised() -> None:
    assert json.loads(as_json(answer(True, PODS[:2], CHANGES))) == {
        "ok": True,
        "pods": [
            {
                "name": "clearml-id-finetune",
                "queue": "slice-4",
                "resource": "nvidia.com/mig-4g.40gb",
                "node": "gpu-1",
                "device": "MIG-a",
                "createdToRunningSeconds": 0.612,
            },
            {
                "name": "notebook",
                "queue": None,
                "resource": "nvidia.com/mig-3g.40gb",
                "node": "gpu-1",
                "device": "MIG-1",
                "createdToRunningSeconds": 0.5,
            },
        ],
        "repartitions": [{"node": "gpu-1", "fencedSeconds": 0.412, "gpuSeconds": 0.155, "reloadSeconds": 0.1}],
    }


def test_a_pod_that_did_not_run_has_no_seconds() -> None:
    assert json.loads(as_json(answer(False, PODS[2:], [])))["pods"][0]["createdToRunningSeconds"] is None


def test_the_tables_read_as_they_always_did() -> None:
    assert as_tables(PODS, CHANGES) == TABLES


def test_tables_without_a_single_pod_say_so() -> None:
    assert "median of 0 pods: none\n" in as_tables([], [])


def test_the_longest_names_of_the_demo_fit_into_80_columns() -> None:
    pods = [outcome("clearml-id-pretrain-2", queue="slice-7", reused=True, seconds=100.25)]
    assert max(map(len, as_tables(pods, CHANGES).splitlines())) <= WIDTH
    assert "clearml-id-pretrain-2  slice-7  mig-3g.40gb  gpu-1   100.25  reused\n" in as_tables(pods, CHANGES)
