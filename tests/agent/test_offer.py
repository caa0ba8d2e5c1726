"""What a Node offers of each resource while slices are withheld from new pods."""

from __future__ import annotations

import pytest

from cdmo.agent.observe import Observation
from cdmo.agent.offer import Offer, offer_of
from cdmo.hardware.port import GpuInstance
from cdmo.model.cluster import NodeInfo, PodInfo
from cdmo.model.gpu import Placement, PodKey
from tests.agent.cards import OTHER_BUS
from tests.agent.nodes import BUS, ONE, THREE, THREE_HIGH, pod
from tests.fakes.hardware import FakeGpus, fake_gpus

SMALL = tuple(Placement(19, start) for start in range(4))
WINDOW = {BUS: SMALL}


class Node:
    """Four 1g slices and a 3g slice on the first GPU, which the window wants; on the second as many 1g as asked."""

    def __init__(self, elsewhere: int = 0) -> None:
        self.gpus: FakeGpus = fake_gpus("H100-SXM5-80GB", "H100-SXM5-80GB")
        self.gpus.create(BUS, THREE_HIGH)
        self.inside: list[GpuInstance] = [self.gpus.create(BUS, each) for each in SMALL]
        self.outside = [self.gpus.create(OTHER_BUS, Placement(19, start)) for start in range(elsewhere)]
        self.holders: dict[str, PodKey] = {}
        self.bound: list[PodInfo] = []

    def hold(self, *instances: GpuInstance) -> None:
        """A pod runs on each of these."""
        for each in instances:
            holder = self.bind()
            self.holders[each.device_uuid] = holder.key

    def bind(self, phase: str = "Running") -> PodInfo:
        """A pod is bound that shows no device."""
        made = PodInfo(PodKey("ml", f"pod-{len(self.bound)}"), node_name="gpu-1", requests={ONE: 1}, phase=phase)
        self.bound.append(made)
        return made

    def offer(self, withheld: dict[str, tuple[Placement, ...]] = WINDOW) -> Offer:
        return offer_of(Observation(self.gpus.read(), self.holders), withheld, self.bound)


def test_without_a_window_everything_that_is_there_is_offered() -> None:
    node = Node()
    node.hold(*node.inside)
    offer = node.offer({})
    assert offer.allocatable == offer.capacity == {ONE: 4, THREE: 1}
    assert not offer.lowered


def test_a_pod_that_ends_in_the_window_leaves_room_for_nobody() -> None:
    """Whatever number of them end at once: the count is as low as that beforehand."""
    node = Node()
    node.hold(*node.inside)
    offer = node.offer()
    assert offer.capacity == {ONE: 4, THREE: 1}
    assert offer.allocatable == {ONE: 0, THREE: 1}
    assert offer.lowered


def test_a_slice_that_became_free_stays_out_of_reach_until_it_is_gone() -> None:
    node = Node()
    node.hold(*node.inside[1:])
    assert node.offer().allocatable[ONE] <= 3 - 3
    gone = node.inside[0]
    node.gpus.destroy(BUS, gone.id, gone.placement)
    assert node.offer() == Offer({ONE: 3, THREE: 1}, {ONE: 0, THREE: 1})


def test_what_is_free_on_another_gpu_is_offered_while_the_window_is_busy() -> None:
    node = Node(elsewhere=3)
    node.hold(*node.inside, node.outside[0])
    assert node.offer().allocatable[ONE] == 5 + 2


def test_when_nothing_is_free_elsewhere_the_count_is_lowered_again() -> None:
    node = Node(elsewhere=3)
    node.hold(*node.inside, *node.outside)
    assert node.offer().allocatable[ONE] == 3


def test_while_a_slice_of_the_window_is_free_the_kubelet_might_give_it_so_nothing_is_offered() -> None:
    node = Node(elsewhere=3)
    node.hold(*node.inside[1:], *node.outside[1:])
    assert node.offer().allocatable[ONE] <= len(node.bound)


def test_a_holder_that_the_mirror_of_pods_does_not_show_frees_nothing() -> None:
    """It was bound, or it ended, between the two looks."""
    node = Node(elsewhere=1)
    node.hold(*node.inside, *node.outside)
    del node.bound[0]
    assert node.offer().allocatable[ONE] == 1


def test_a_pod_that_is_bound_but_not_admitted_counts_as_one_that_takes_a_slice() -> None:
    node = Node(elsewhere=1)
    node.hold(*node.inside)
    node.bind(phase="Pending")
    assert node.offer().allocatable[ONE] <= len(node.bound)


def test_a_pod_that_has_ended_or_is_only_nominated_takes_nothing() -> None:
    node = Node(elsewhere=1)
    node.hold(*node.inside)
    node.bind(phase="Succeeded")
    node.bound.append(pod("nominated", {ONE: 1}))
    assert node.offer().allocatable[ONE] == 5


def test_a_process_that_outlives_its_pod_does_not_make_its_slice_a_held_one() -> None:
    node = Node(elsewhere=1)
    node.hold(*node.inside[1:])
    node.gpus.add_process(node.inside[0].device_uuid, 4711)
    assert node.offer().allocatable[ONE] <= len(node.bound)


def test_withheld_slices_that_do_not_exist_lower_nothing() -> None:
    node = Node()
    node.hold(*node.inside)
    foreign = {BUS: (Placement(19, 6),), "00000000:99:00.0": SMALL}
    assert not node.offer(foreign).lowered


@pytest.mark.parametrize(
    ("allocatable", "shown"),
    [
        ({ONE: 0, THREE: 1, "cpu": 8}, True),
        ({THREE: 1}, True),
        ({ONE: 4, THREE: 1}, False),
        ({ONE: 0, THREE: 1, "nvidia.com/mig-7g.80gb": 1}, False),
        ({ONE: 0, THREE: 1, "nvidia.com/mig-7g.80gb": 0}, True),
        ({}, False),
    ],
    ids=["as-offered", "a-missing-key-is-none", "set-back", "a-profile-that-went", "none-of-it", "no-keys"],
)
def test_an_offer_is_shown_when_the_scheduler_sees_these_counts(allocatable: dict[str, int], shown: bool) -> None:
    node = Node()
    node.hold(*node.inside)
    assert node.offer().shown_by(NodeInfo("gpu-1", allocatable=allocatable)) is shown


def test_an_unhealthy_slice_counts_for_nobody_whether_it_is_in_use_or_not() -> None:
    """Were it counted while a pod runs on it, the pod's end would leave room that the kubelet does not have."""
    node = Node()
    node.gpus.gpu(BUS).slice_faults[node.inside[0].id] = "XID 94"
    for _ in range(2):
        offer = node.offer({})
        assert (offer.capacity[ONE], offer.allocatable[ONE]) == (4, 3)
        node.hold(node.inside[0])


def test_a_gpu_in_trouble_offers_nothing_and_the_others_all_they_have() -> None:
    node = Node(elsewhere=2)
    node.gpus.gpu(BUS).faults = ("XID 95: reset it",)
    offer = node.offer({})
    assert offer.capacity == {ONE: 6, THREE: 1}
    assert offer.allocatable == {ONE: 2, THREE: 0}


def test_an_unhealthy_slice_in_a_window_is_not_taken_off_twice() -> None:
    node = Node(elsewhere=1)
    node.gpus.gpu(BUS).slice_faults[node.inside[0].id] = "XID 94"
    assert node.offer().allocatable[ONE] == 1
