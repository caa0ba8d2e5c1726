"""The fence stays up until the Node offers no more whole GPUs than the kubelet has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.agent.whole_gpus import WholeGpus
from cdmo.errors import ClusterUnavailable, KubeletUnavailable
from tests.agent.nodes import THREE
from tests.fakes.clock import HastyClock
from tests.fakes.hardware import fake_gpus
from tests.fakes.node import WHOLE, FakeNode

SHARED = "nvidia.com/gpu.shared"


@pytest.fixture
def node() -> FakeNode:
    """Two GPUs whose MIG mode is off: the plugin lists both as whole ones."""
    return FakeNode(fake_gpus("H100-SXM5-80GB", "H100-SXM5-80GB", mig=False))


@pytest.fixture
def clock() -> HastyClock:
    return HastyClock()


@pytest.fixture
def whole_gpus(node: FakeNode, clock: HastyClock) -> WholeGpus:
    return WholeGpus(node.name, node, node, clock)


def offer(node: FakeNode, **allocatable: int) -> None:
    """The kubelet's report of whole GPUs, as the Node has it; `shared` of shares of them."""
    names = {"whole": WHOLE, "shared": SHARED, "three": THREE, "cpu": "cpu"}
    node.info = replace(node.info, allocatable={names[name]: count for name, count in allocatable.items()})


def reports_at(node: FakeNode, look: int, **allocatable: int) -> None:
    """The kubelet reports when the Node is read the nth time."""

    def called(call: str) -> None:
        if call == "node" and node.calls.count("node") == look:
            offer(node, **allocatable)

    node.on_call = called


@pytest.mark.parametrize("allocatable", [{}, {"whole": 0}, {"cpu": 8000, "three": 2}])
async def test_a_node_that_offers_no_whole_gpu_needs_no_look_at_the_kubelet(
    allocatable: dict[str, int], node: FakeNode, whole_gpus: WholeGpus
) -> None:
    offer(node, **allocatable)
    await whole_gpus.settled(node.info)
    assert node.calls == []


@pytest.mark.parametrize("count", [1, 2])
async def test_an_offer_that_the_kubelet_can_keep_is_not_waited_for(
    count: int, node: FakeNode, whole_gpus: WholeGpus, clock: HastyClock
) -> None:
    offer(node, whole=count, three=7)
    await whole_gpus.settled(node.info)
    assert (node.calls, clock.slept) == (["allocatable"], [])


async def test_too_many_are_waited_for_until_the_kubelet_has_reported(
    node: FakeNode, whole_gpus: WholeGpus, clock: HastyClock
) -> None:
    offer(node, whole=2)
    node.listed = {WHOLE: frozenset(sorted(node.listed[WHOLE])[:1])}
    reports_at(node, 3, whole=1)
    await whole_gpus.settled(node.info)
    assert node.calls.count("node") == 3
    assert len(clock.slept) == 3


async def test_a_node_whose_last_whole_gpu_was_cut_is_waited_for(node: FakeNode, whole_gpus: WholeGpus) -> None:
    offer(node, whole=2)
    node.listed = {THREE: frozenset({"MIG-1"})}
    reports_at(node, 1, whole=0)
    await whole_gpus.settled(node.info)
    assert node.calls == ["allocatable", "node"]


async def test_it_ends_as_well_when_the_kubelet_hears_of_the_gpu_that_it_lacks(
    node: FakeNode, whole_gpus: WholeGpus
) -> None:
    offer(node, whole=2)
    both, node.listed = node.listed, {}

    def called(call: str) -> None:
        if call == "node":
            node.listed = both

    node.on_call = called
    await whole_gpus.settled(node.info)
    assert node.calls == ["allocatable", "node", "allocatable"]


async def test_shares_of_a_gpu_count_each_under_their_own_name(node: FakeNode, whole_gpus: WholeGpus) -> None:
    offer(node, whole=2, shared=4)
    node.listed = {**node.listed, SHARED: frozenset(f"GPU-1::{number}" for number in range(3))}
    reports_at(node, 1, whole=2, shared=3)
    await whole_gpus.settled(node.info)
    assert node.calls == ["allocatable", "node", "allocatable"]


async def test_the_pauses_grow_from_the_plugins_milliseconds_to_half_a_second(
    node: FakeNode, whole_gpus: WholeGpus, clock: HastyClock
) -> None:
    offer(node, whole=2)
    node.listed = {}
    reports_at(node, 20, whole=0)
    await whole_gpus.settled(node.info)
    assert (clock.slept[0], clock.slept[-1]) == (0.02, 0.5)
    assert clock.slept == sorted(clock.slept)


async def test_who_does_not_answer_is_the_callers_business(node: FakeNode, whole_gpus: WholeGpus) -> None:
    offer(node, whole=2)
    node.fails["allocatable"] = [KubeletUnavailable("no socket")]
    with pytest.raises(KubeletUnavailable):
        await whole_gpus.settled(node.info)
    node.listed = {}
    node.fails["node"] = [ClusterUnavailable("no answer")]
    with pytest.raises(ClusterUnavailable):
        await whole_gpus.settled(node.info)
