"""The device manager's rules and the exact texts of its refusals."""

from __future__ import annotations

import pytest
from cdmo_harness.kubelet.devices import AllocationFailed, Device

from tests.harness.kubelet.builders import ONE_G, SOCKET, FakePlugin, Node, container, pod

pytestmark = pytest.mark.asyncio


async def refusal(node: Node, **asks: int) -> str:
    with pytest.raises(AllocationFailed) as caught:
        await node.admits(pod(**asks))
    return str(caught.value)


async def test_a_pod_gets_a_healthy_device_and_the_checkpoint_is_written() -> None:
    node = Node()
    plugin = node.offers("MIG-a")
    written = node.saved
    assert await node.admits(pod(one_g=1)) == {"main": frozenset({"MIG-a"})}
    assert plugin.asked == [frozenset({"MIG-a"})]
    assert node.saved == written + 1


async def test_two_pods_never_get_the_same_device() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    first, second = await node.admits(pod(one_g=1)), await node.admits(pod(one_g=1))
    assert first["main"].isdisjoint(second["main"])


async def test_a_resource_no_plugin_ever_listed_is_skipped_in_silence() -> None:
    node = Node()
    assert await node.admits(pod(one_g=1)) == {}


async def test_a_registered_resource_counts_only_from_its_first_list_on() -> None:
    node = Node()
    node.manager.plugin_connected(ONE_G, FakePlugin(), await FakePlugin().options())
    assert await node.admits(pod(one_g=1)) == {}
    node.manager.devices_listed(ONE_G, [Device("MIG-a")])
    assert await node.admits(pod(one_g=1)) == {"main": frozenset({"MIG-a"})}


async def test_after_the_plugin_ended_pods_fail_with_no_healthy_devices() -> None:
    node = Node()
    node.offers("MIG-a")
    node.manager.plugin_disconnected(ONE_G, SOCKET)
    assert await refusal(node, one_g=1) == (f"no healthy devices present; cannot allocate unhealthy devices {ONE_G}")


async def test_more_than_is_free_fails_with_both_numbers() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    await node.admits(pod(one_g=1))
    assert await refusal(node, one_g=2) == (
        f"requested number of devices unavailable for {ONE_G}. Requested: 2, Available: 1"
    )


async def test_a_resource_known_only_from_an_allocation_is_unregistered() -> None:
    node = Node()
    node.offers("MIG-a")
    holder = pod(one_g=1)
    await node.admits(holder)
    node.manager.plugin_disconnected(ONE_G, SOCKET)
    node.time += 301
    node.manager.capacity()
    assert await refusal(node, one_g=1) == f"cannot allocate unregistered device {ONE_G}"


async def test_a_pod_admitted_again_with_a_vanished_device_is_refused() -> None:
    node = Node()
    node.offers("MIG-a")
    again = pod(one_g=1)
    await node.admits(again)
    node.manager.devices_listed(ONE_G, [Device("MIG-b")])
    with pytest.raises(AllocationFailed, match="previously allocated devices are no longer healthy; cannot allocate"):
        await node.admits(again)


async def test_a_container_that_ran_across_a_kubelet_restart_is_not_judged() -> None:
    node = Node()
    running = pod(one_g=1)
    node.offers("MIG-a")
    await node.admits(running)
    restarted = Node(active={running.uid})
    restarted.manager.restore(node.manager.pods, [ONE_G])
    restarted.manager.sources_ready = False
    restarted.manager.running_before = frozenset({(running.uid, "main")})
    assert await restarted.admits(running) == {"main": frozenset({"MIG-a"})}
    rebooted = Node(active={running.uid})
    rebooted.manager.restore(node.manager.pods, [ONE_G])
    with pytest.raises(AllocationFailed, match="no healthy devices present"):
        await rebooted.admits(running)


async def test_a_broken_allocate_call_gives_its_device_back() -> None:
    node = Node()
    plugin = node.offers("MIG-a")
    plugin.gone = "rpc error: code = Unavailable desc = error reading from server: EOF"
    assert await refusal(node, one_g=1) == plugin.gone
    plugin.gone = None
    assert await node.admits(pod(one_g=1)) == {"main": frozenset({"MIG-a"})}


async def test_a_broken_preference_call_is_named_as_such() -> None:
    node = Node()
    plugin = node.offers("MIG-a", plugin=FakePlugin(prefers=frozenset()))
    plugin.gone = "rpc error: code = Unavailable desc = error reading from server: EOF"
    assert await refusal(node, one_g=1) == (
        f"device plugin GetPreferredAllocation rpc failed with err: {plugin.gone}"
    )


async def test_a_stopped_endpoint_with_healthy_devices_says_so() -> None:
    node = Node(kubelet_minor=36)
    node.offers("MIG-a")
    node.manager.plugin_disconnected(ONE_G, SOCKET)
    # The milder race of older kubelets: a list of the old stream that is handled after its end.
    node.manager.devices_listed(ONE_G, [Device("MIG-a")])
    assert "has been stopped" in await refusal(node, one_g=1)


async def test_the_plugins_preference_decides_between_equal_devices() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b", "MIG-c", plugin=FakePlugin(prefers=frozenset({"MIG-c"})))
    assert await node.admits(pod(one_g=1)) == {"main": frozenset({"MIG-c"})}


async def test_devices_are_freed_when_somebody_asks_not_when_the_pod_ends() -> None:
    node = Node()
    node.offers("MIG-a")
    ended = pod(one_g=1)
    await node.admits(ended)
    node.active.discard(ended.uid)
    assert node.manager.pods.held(ended.uid, "main", ONE_G) == {"MIG-a"}
    assert await node.admits(pod(one_g=1)) == {"main": frozenset({"MIG-a"})}
    assert node.manager.pods.held(ended.uid, "main", ONE_G) is None


async def test_nothing_is_freed_before_all_pods_are_known() -> None:
    node = Node()
    node.offers("MIG-a")
    ended = pod(one_g=1)
    await node.admits(ended)
    node.active.clear()
    node.manager.sources_ready = False
    node.manager.free_ended_pods()
    assert node.manager.pods.held(ended.uid, "main", ONE_G) == {"MIG-a"}


async def test_an_init_containers_devices_are_used_again_by_the_main_container() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    held = await node.admits(pod(container(one_g=1), init=[container("prepare", one_g=2)]))
    assert held["prepare"] == {"MIG-a", "MIG-b"}
    assert held["main"] < held["prepare"]
    assert "Available: 0" in await refusal(node, one_g=1)


async def test_a_sidecar_keeps_its_devices_for_itself() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    held = await node.admits(pod(container(one_g=1), init=[container("proxy", sidecar=True, one_g=1)]))
    assert held["main"].isdisjoint(held["proxy"])


async def test_a_device_that_vanished_under_a_pod_still_counts_as_healthy() -> None:
    node = Node()
    node.offers("MIG-a")
    await node.admits(pod(one_g=1))
    assert node.manager.devices_listed(ONE_G, []) == frozenset()
    assert node.manager.health(ONE_G, "MIG-a") == "Healthy"


async def test_a_change_of_health_names_the_pod_that_holds_the_device() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    holder = pod(one_g=2)
    await node.admits(holder)
    changed = node.manager.devices_listed(ONE_G, [Device("MIG-a", "Unhealthy"), Device("MIG-b")])
    assert changed == {holder.uid}
    assert node.manager.health(ONE_G, "MIG-a") == "Unhealthy"
