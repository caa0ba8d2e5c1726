"""Proof that the scheduler knows of a fence."""

from __future__ import annotations

import asyncio

import pytest

from cdmo.agent.fence import Fence, FenceLimits
from cdmo.agent.witness import Heard, Witness
from cdmo.errors import ClusterUnavailable, Denied, FenceLapsed, SchedulerSilent
from cdmo.model.cluster import carries_fence
from cdmo.model.names import CHANGE_LABEL
from tests.agent.nodes import at_call, witness_of
from tests.fakes.clock import HastyClock
from tests.fakes.hardware import fake_gpus
from tests.fakes.node import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(fake_gpus())


@pytest.fixture
def clock() -> HastyClock:
    return HastyClock()


@pytest.fixture
def witness(node: FakeNode, clock: HastyClock) -> Witness:
    return witness_of(node, clock)


@pytest.fixture
def fence(node: FakeNode, clock: HastyClock, witness: Witness) -> Fence:
    return Fence(node, node.name, clock, FenceLimits(), witness)


async def test_each_change_has_a_word_of_its_own_on_the_node(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    first = node.info.labels[CHANGE_LABEL]
    assert node.witness == first
    await fence.lower()
    assert (CHANGE_LABEL in node.info.labels, node.witness) == (False, "")
    await fence.raise_()
    assert node.info.labels[CHANGE_LABEL] != first


async def test_the_scheduler_is_waited_for(node: FakeNode, fence: Fence, clock: HastyClock) -> None:
    node.scheduler_hears = False
    at_call(node, "has_heard", 4, lambda: setattr(node, "scheduler_hears", True))
    await fence.raise_()
    assert (node.calls.count("has_heard"), fence.unasked) == (4, False)


async def test_a_scheduler_that_does_not_show_it_ends_the_change_before_anything_is_touched(
    node: FakeNode, fence: Fence, clock: HastyClock
) -> None:
    node.scheduler_hears = False
    with pytest.raises(SchedulerSilent, match="has not shown within 10 s") as told:
        await fence.raise_()
    assert "`--scheduler`" in told.value.hint
    await fence.lower()
    assert (carries_fence(node.info), node.witness) == (False, "")


async def test_an_api_server_that_is_away_for_a_moment_is_asked_again(node: FakeNode, fence: Fence) -> None:
    node.fails["witness"] = [ClusterUnavailable("no answer"), ClusterUnavailable("no answer")]
    node.fails["has_heard"] = [ClusterUnavailable("no answer")]
    await fence.raise_()
    assert (fence.unasked, node.calls.count("witness"), node.calls.count("has_heard")) == (False, 3, 2)


async def test_one_that_somebody_deleted_before_it_has_served_is_called_again(node: FakeNode, fence: Fence) -> None:
    at_call(node, "has_heard", 1, lambda: setattr(node, "witness", ""))
    await fence.raise_()
    assert (fence.unasked, node.calls.count("witness")) == (False, 2)


async def test_nobody_is_waited_for_beyond_the_failure_of_the_fence(node: FakeNode, fence: Fence) -> None:
    node.scheduler_hears = False
    node.fails["probe"] = [Denied("RBAC")]
    with pytest.raises(Denied):
        await fence.raise_()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("call", ["witness", "has_heard"])
async def test_where_it_may_not_be_asked_the_change_goes_on_and_that_is_known(
    call: str, node: FakeNode, fence: Fence
) -> None:
    node.fails[call] = [Denied("admission webhook says no")]
    await fence.raise_()
    assert fence.unasked


async def test_a_witness_that_cannot_be_deleted_keeps_no_fence_up(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    node.fails["dismiss"] = [ClusterUnavailable("no answer")]
    await fence.lower()
    assert not carries_fence(node.info)


async def test_it_goes_when_it_has_served_so_that_no_pod_waits_for_its_deletion(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    fence.dismiss_witness()
    while node.witness:  # noqa: ASYNC110  (nothing tells of it)
        await asyncio.sleep(0)
    assert node.calls.count("dismiss") == 1
    await fence.lower()
    assert node.calls.count("dismiss") == 1


async def test_a_deletion_that_failed_is_tried_once_more_at_the_end(node: FakeNode, fence: Fence) -> None:
    node.fails["dismiss"] = [ClusterUnavailable("no answer")]
    await fence.raise_()
    fence.dismiss_witness()
    await fence.lower()
    assert node.calls.count("dismiss") == 2


async def test_a_deletion_that_hangs_is_given_up_before_the_next_change_calls_its_own(
    node: FakeNode, fence: Fence
) -> None:
    await fence.raise_()
    fence.dismiss_witness()  # its deletion has not begun when the change is given up
    await fence.raise_()
    assert (node.calls.count("dismiss"), node.witness) == (0, node.info.labels[CHANGE_LABEL])


async def test_a_fence_whose_end_was_not_proved_in_time_is_lowered_again(
    node: FakeNode, fence: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion of the witness was cancelled with the first lowering; nobody else may take that for an order."""

    async def hangs(name: str) -> None:
        await asyncio.Event().wait()

    async def refuses(name: str, server: str) -> int:
        await asyncio.sleep(0)  # so that the deletion begins
        return node.version

    await fence.raise_()
    with monkeypatch.context() as patch:
        patch.setattr(node, "dismiss", hangs)
        patch.setattr(node, "refused_as_of", refuses)
        fence.dismiss_witness()
        with pytest.raises(FenceLapsed, match="was not gone after 10 s"):
            await fence.lower()
    await fence.lower()
    assert (carries_fence(node.info), node.witness) == (False, "")


async def test_what_was_refused_for_one_change_is_tried_for_the_next(node: FakeNode, witness: Witness) -> None:
    node.fails["witness"] = [Denied("no")]
    await witness.begin()
    assert await witness.heard() is Heard.UNASKED
    await node.set_labels(node.name, {CHANGE_LABEL: await witness.begin()})
    assert await witness.heard() is Heard.YES
