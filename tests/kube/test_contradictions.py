"""Files whose objects contradict themselves or each other: a sentence names object and field, the rest is planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdmo.kube.objects import Reading
from cdmo.model.policy import Policy
from cdmo.planner import plan
from tests.builders import BUS, h100
from tests.kube.files import asking, cluster, gpu_node, mignode, read, sketched, waiting
from tests.kube.objects import Json, container, pod_json


def placed(reading: Reading) -> dict[str, str]:
    """Where the plan puts the pods: node and bus."""
    return {
        str(each.pod): f"{each.node} {each.slices[0].gpu}" for each in plan(reading.snapshot, Policy()).placements
    }


Spoil = Callable[[Json], None]


def spoilt(spoil: Spoil) -> list[Json]:
    """A MigNode of two H100, the first of which is spoilt, and a pod that fits the second."""
    made = mignode("gpu-1", h100(slices={"1g.10gb@0": "ml/old", "1g.10gb@1": "ml/older"}), h100())
    spoil(made)
    return [gpu_node(), made, waiting("train")]


def device(**changes: Any) -> Spoil:
    def change(made: Json) -> None:
        made["status"]["gpus"][0]["devices"][1] |= changes

    return change


def gpu(**changes: Any) -> Spoil:
    def change(made: Json) -> None:
        made["status"]["gpus"][0] |= changes

    return change


ON_DEVICE = "0.txt: MigNode gpu-1 status.gpus[0].devices[1]: "
UNFIT = "; nothing is planned on this GPU"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (device(start=0), ON_DEVICE + "profile 19 (1g.10gb) at slot 0 overlaps profile 19 (1g.10gb) at slot 0"),
        (
            device(profileId=9, start=0),
            ON_DEVICE + "profile 9 (3g.40gb) at slot 0 overlaps profile 19 (1g.10gb) at slot 0",
        ),
        (device(profileId=77), ON_DEVICE + "NVIDIA H100 80GB HBM3 has no profile 77"),
        (device(start=7), ON_DEVICE + "NVIDIA H100 80GB HBM3 has no placement of profile 19 (1g.10gb) at slot 7"),
        (gpu(model=1), "0.txt: MigNode gpu-1 status.gpus[0].model: status.models has no entry 1"),
    ],
    ids=["same-place", "overlap", "unknown-profile", "no-such-place", "unknown-model"],
)
def test_a_gpu_that_contradicts_itself_is_left_alone_and_the_next_one_is_planned(
    tmp_path: Path, spoil: Spoil, problem: str
) -> None:
    reading = read(tmp_path, spoilt(spoil))
    assert reading.problems == (problem + UNFIT,)
    assert placed(reading) == {"ml/train": f"gpu-1 {BUS[1]}"}


def test_a_gpu_that_is_listed_twice_is_left_alone(tmp_path: Path) -> None:
    def twice(made: Json) -> None:
        made["status"]["gpus"].append(made["status"]["gpus"][0])

    reading = read(tmp_path, spoilt(twice))
    assert reading.problems == (
        f"0.txt: MigNode gpu-1 status.gpus[2].pciBusId: {BUS[0]} is listed twice; nothing is planned on this GPU",
    )
    assert placed(reading) == {"ml/train": f"gpu-1 {BUS[1]}"}


def table(index: int, **changes: Any) -> Spoil:
    def change(made: Json) -> None:
        made["status"]["models"][0]["profiles"][index] |= changes

    return change


def slots(number: int) -> Spoil:
    def change(made: Json) -> None:
        made["status"]["models"][0]["memorySlots"] = number
        for each in made["status"]["gpus"]:
            each.pop("devices", None)

    return change


ON_MODEL = "0.txt: MigNode gpu-1 status.models[0]."


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (table(0, size=2**60), f"profiles[0].size: {2**60} memory slots of 8; the profile is left out"),
        (table(0, size=0), "profiles[0].size: 0 memory slots of 8; the profile is left out"),
        (table(0, id=9), "profiles[2].id: profile 9 is listed twice; the first one counts"),
        (
            table(1, starts=[0, 5]),
            "profiles[1].starts: a start stands twice or reaches beyond the card; it is left out",
        ),
        (
            table(1, starts=[0, 0]),
            "profiles[1].starts: a start stands twice or reaches beyond the card; it is left out",
        ),
        (slots(0), "memorySlots: no card has 0 memory slots; its profiles are left out"),
        (slots(2**62), f"memorySlots: no card has {2**62} memory slots; its profiles are left out"),
    ],
    ids=["huge", "empty", "twice", "beyond", "start-twice", "no-slots", "too-many-slots"],
)
def test_a_profile_that_no_card_can_have_is_left_out(tmp_path: Path, spoil: Spoil, problem: str) -> None:
    reading = read(tmp_path, [*spoilt(spoil), gpu_node("gpu-2"), mignode("gpu-2")])
    assert reading.problems == (ON_MODEL + problem,)
    assert placed(reading).keys() == {"ml/train"}


def spec(*gpus: Json) -> Spoil:
    def change(made: Json) -> None:
        made["spec"] = {"gpus": list(gpus)}

    return change


def asked(*placements: tuple[int, int], bus: str = BUS[1]) -> Json:
    return {"pciBusId": bus, "layout": [{"profileId": profile, "start": start} for profile, start in placements]}


IGNORED = "; what cannot be is not planned with"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spec(asked((77, 0))), f"spec.gpus ({BUS[1]}): NVIDIA H100 80GB HBM3 has no profile 77{IGNORED}"),
        (
            spec(asked((9, 0), (5, 0))),
            f"spec.gpus ({BUS[1]}): profile 9 (3g.40gb) at slot 0 overlaps profile 5 (4g.40gb) at slot 0{IGNORED}",
        ),
        (spec(asked(bus="00000000:99:00.0")), "spec.gpus (00000000:99:00.0): its status has no such GPU"),
    ],
    ids=["unknown-profile", "overlap", "unknown-gpu"],
)
def test_layouts_that_cannot_be_are_told_and_the_node_is_planned(tmp_path: Path, spoil: Spoil, problem: str) -> None:
    reading = read(tmp_path, spoilt(spoil))
    assert reading.problems == (f"0.txt: MigNode gpu-1 {problem}",)
    assert placed(reading).keys() == {"ml/train"}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spec(asked(), asked()), f"spec.gpus[1].pciBusId: {BUS[1]} is listed twice"),
        (spec(asked((19, 0), (19, 0))), "spec.gpus[0].layout: the same placement is listed twice"),
    ],
    ids=["gpu", "placement"],
)
def test_a_spec_that_lists_something_twice_stops_planning_on_its_node(
    tmp_path: Path, spoil: Spoil, problem: str
) -> None:
    reading = read(tmp_path, [*spoilt(spoil), gpu_node("gpu-2"), mignode("gpu-2")])
    assert reading.problems == (f"0.txt: MigNode gpu-1 {problem}",)
    assert placed(reading) == {"ml/train": f"gpu-2 {BUS[0]}"}


def test_a_mignode_without_its_node_is_left_out(tmp_path: Path) -> None:
    reading = read(tmp_path, cluster(mignode("gpu-9"), waiting("train")))
    assert reading.problems == ("0.txt: MigNode gpu-9: there is no Node of this name; it is left out",)
    assert placed(reading) == {"ml/train": f"gpu-1 {BUS[0]}"}


def test_a_pod_on_a_node_that_is_gone_is_left_out_unless_it_is_over(tmp_path: Path) -> None:
    over = {**pod_json("over", nodeName="gpu-9"), "status": {"phase": "Failed"}}
    reading = read(tmp_path, cluster(waiting("lost", nodeName="gpu-9"), over, waiting("train")))
    assert reading.problems == ("0.txt: Pod ml/lost spec.nodeName: there is no Node gpu-9; the pod is left out",)
    assert placed(reading).keys() == {"ml/train"}


def test_a_node_that_takes_no_pods_is_told(tmp_path: Path) -> None:
    bare = gpu_node("gpu-2")
    del bare["status"]["allocatable"]
    reading = read(tmp_path, cluster(bare, mignode("gpu-2"), waiting("train")))
    assert reading.problems == ("0.txt: Node gpu-2 status.allocatable: it says of no pods that they may run there",)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (sketched("bad", priority="high"), "Pod ml/bad spec.priority: expected int, got str"),
        (sketched("bad", nodeSelector=["a"]), "Pod ml/bad spec.nodeSelector: expected object, got array"),
        ({**sketched("bad"), "status": "Pending"}, "Pod ml/bad status: expected object, got str"),
        (
            sketched("bad", containers=asking(count="some")),
            "Pod ml/bad spec.containers[0].resources.requests[nvidia.com/mig-3g.40gb]: 'some' is not a quantity; "
            "expected something like 500m, 2 or 40Gi",
        ),
        (
            sketched("bad", containers=asking(), overhead={"cpu": "1e99"}),
            "Pod ml/bad spec.overhead[cpu]: '1e99' has an exponent beyond what Kubernetes can hold",
        ),
        (
            sketched("bad", containers=[container(cpu="-1")]),
            "Pod ml/bad: its requests of cpu are below zero",
        ),
        (
            {**gpu_node("bad"), "status": {"allocatable": {"memory": "much"}}},
            "Node bad status.allocatable[memory]: 'much' is not a quantity; expected something like 500m, 2 or 40Gi",
        ),
        (
            {**mignode("bad"), "spec": {"gpus": [{"pciBusId": "0000:10:00.0"}]}},
            "MigNode bad spec.gpus[0].pciBusId: expected str matching regex '^[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}"
            "\\\\.[0-7]$'",
        ),
        (
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "bad"}},
            "PriorityClass bad: object missing required field value",
        ),
    ],
    ids=["priority", "selector", "status", "slices", "overhead", "negative", "memory", "bus", "class"],
)
def test_an_object_with_a_wrong_field_is_left_out_and_the_field_is_named(
    tmp_path: Path, bad: Json, problem: str
) -> None:
    reading = read(tmp_path, cluster(bad, waiting("train")))
    assert reading.problems == (f"0.txt: {problem}; it is left out",)
    assert placed(reading) == {"ml/train": f"gpu-1 {BUS[0]}"}


def test_an_object_without_a_name_is_left_out(tmp_path: Path) -> None:
    pod = sketched("")
    pod["metadata"] = {"generateName": "train-"}
    assert read(tmp_path, cluster(pod)).problems == ("0.txt: a Pod has no metadata.name; it is left out",)


def test_one_object_twice_in_a_file_is_told_and_the_later_version_counts(tmp_path: Path) -> None:
    old, new = waiting("train", "1g.10gb"), waiting("train", "2g.20gb")
    old["metadata"]["resourceVersion"], new["metadata"]["resourceVersion"] = "99", "100"
    for pods in ([old, new], [new, old]):
        reading = read(tmp_path, cluster(*pods))
        assert reading.problems == (
            "0.txt: Pod ml/train is listed twice with different content; its latest resourceVersion counts",
        )
        assert [each.demand for each in reading.snapshot.pending] == [(("nvidia.com/mig-2g.20gb", 1),)]
    assert read(tmp_path, cluster(old, old)).problems == ()
