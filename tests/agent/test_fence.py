"""The fence: taint, label, proof; and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdmo.agent.fence import Fence, FenceLimits
from cdmo.errors import ClusterUnavailable, Denied, FenceLapsed
from cdmo.model.cluster import carries_fence
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT
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
def fence(node: FakeNode, clock: HastyClock) -> Fence:
    return Fence(node, node.name, clock, FenceLimits(), witness_of(node, clock))


async def test_taint_and_label_go_up_in_one_write_and_are_proved_at_every_api_server(
    node: FakeNode, fence: Fence
) -> None:
    await fence.raise_()
    assert node.fenced
    assert [each.key for each in node.info.taints] == [REPARTITIONING_TAINT]
    assert node.calls.index("set_taint") < node.calls.index("probe")
    assert "fence" not in node.calls
    assert node.calls.count("probe") == 2
    assert await fence.is_up()


async def test_binds_that_were_already_admitted_get_a_moment_to_settle(fence: Fence, clock: HastyClock) -> None:
    await fence.raise_()
    assert FenceLimits().settle in clock.slept


async def test_it_is_waited_for_until_it_is_live(node: FakeNode, fence: Fence, clock: HastyClock) -> None:
    node.policy_installed = False
    at_call(node, "probe", 7, lambda: setattr(node, "policy_installed", True))
    await fence.raise_()
    assert max(clock.slept) <= 0.1


async def test_it_lapses_when_no_policy_answers_within_the_limit(
    node: FakeNode, fence: Fence, clock: HastyClock
) -> None:
    node.policy_installed = False
    began = clock.monotonic()
    with pytest.raises(FenceLapsed, match="was not live after 10 s at API server https://one") as raised:
        await fence.raise_()
    assert "ValidatingAdmissionPolicy cdmo-fence" in raised.value.hint
    assert clock.monotonic() - began < 25.0


async def test_an_api_server_that_is_busy_is_asked_again_and_named_when_it_stays_so(
    node: FakeNode, fence: Fence
) -> None:
    node.fails["probe"] = [ClusterUnavailable("busy")] * 3
    await fence.raise_()
    node.fails["probe"] = [ClusterUnavailable("busy")] * 10_000
    with pytest.raises(FenceLapsed, match=r"\(busy\)"):
        await fence.raise_()


async def test_a_probe_that_is_not_allowed_is_no_proof(node: FakeNode, fence: Fence) -> None:
    node.fails["probe"] = [Denied("RBAC")]
    with pytest.raises(Denied):
        await fence.raise_()


async def test_a_fence_that_somebody_removed_is_found_out(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    await fence.verify()
    node.policy_installed = False
    with pytest.raises(FenceLapsed, match="bindings to node gpu-1 were possible") as raised:
        await fence.verify()
    assert FENCE_LABEL in raised.value.hint


async def test_a_refusal_because_of_an_earlier_fence_proves_nothing(node: FakeNode, fence: Fence) -> None:
    """That API server will hear of the earlier fence's end next, and let a binding through."""
    node.server_lags["https://two"] = 1
    with pytest.raises(FenceLapsed, match=r"not live after .* at API server https://two"):
        await fence.raise_()
    node.server_lags.clear()
    await fence.raise_()


async def test_from_the_first_touch_on_only_the_agent_may_lift_it(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    assert node.info.labels[FENCE_LABEL] == FENCE_CHANGING
    await fence.verify()
    assert not await node.take_off("gpu-1", FENCE_LABEL, FENCE_VALUE, REPARTITIONING_TAINT)
    await fence.lower()
    assert not carries_fence(node.info)


async def test_an_agent_that_finds_its_fence_lifted_before_it_touches_anything_stops(
    node: FakeNode, fence: Fence
) -> None:
    def lift() -> None:
        node.info = replace(node.info, labels={}, taints=())

    at_call(node, "mark", 1, lift)
    with pytest.raises(FenceLapsed, match="lifted before anything was changed"):
        await fence.raise_()


@pytest.mark.parametrize("value", [FENCE_VALUE, FENCE_CHANGING])
async def test_a_fence_without_its_taint_is_not_relied_on(node: FakeNode, fence: Fence, value: str) -> None:
    """A scheduler that never heard of the taint may still count with what there was before."""

    def take_taint_off() -> None:
        node.info = replace(node.info, labels={**node.info.labels, FENCE_LABEL: value}, taints=())

    at_call(node, "mark", 1, take_taint_off)
    with pytest.raises(FenceLapsed, match="lifted before anything was changed"):
        await fence.raise_()


async def test_the_fence_of_an_interrupted_change_is_taken_over_as_it_is(node: FakeNode, fence: Fence) -> None:
    await node.set_labels("gpu-1", {FENCE_LABEL: FENCE_CHANGING})
    await fence.raise_()
    assert node.info.labels[FENCE_LABEL] == FENCE_CHANGING
    assert await fence.inherited()


async def test_it_comes_down_label_first_and_is_proved_gone_before_the_taint_goes(
    node: FakeNode, fence: Fence
) -> None:
    await fence.raise_()
    node.calls.clear()
    await fence.lower()
    assert node.calls == ["unfence", "dismiss", "probe", "probe", "remove_taint"]
    assert not carries_fence(node.info)
    assert not await fence.is_up()


async def test_lowering_what_another_agent_left_up_asks_for_the_servers_first(node: FakeNode, fence: Fence) -> None:
    await node.set_labels("gpu-1", {FENCE_LABEL: FENCE_VALUE})
    node.calls.clear()
    await fence.lower()
    assert node.calls[:2] == ["api_servers", "unfence"]
    assert not carries_fence(node.info)


async def test_lowering_nothing_is_fine(node: FakeNode, fence: Fence) -> None:
    await fence.lower()
    assert not carries_fence(node.info)


async def test_the_taint_goes_even_when_the_end_of_the_fence_cannot_be_proved(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    node.fails["probe"] = [Denied("RBAC")]
    with pytest.raises(Denied):
        await fence.lower()
    assert not carries_fence(node.info)


async def test_a_label_that_cannot_be_removed_keeps_the_taint_too(node: FakeNode, fence: Fence) -> None:
    await fence.raise_()
    node.fails["unfence"] = [ClusterUnavailable("no answer")]
    with pytest.raises(ClusterUnavailable):
        await fence.lower()
    assert [each.key for each in node.info.taints] == [REPARTITIONING_TAINT]


async def test_label_or_taint_alone_count_as_a_fence(node: FakeNode, fence: Fence) -> None:
    assert not await fence.is_up()
    await node.set_taint("gpu-1", REPARTITIONING_TAINT, "NoSchedule")
    assert await fence.is_up()
    await node.remove_taint("gpu-1", REPARTITIONING_TAINT)
    await node.set_labels("gpu-1", {FENCE_LABEL: FENCE_VALUE})
    assert await fence.is_up()
