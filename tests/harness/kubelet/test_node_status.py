"""What a status tick writes, and what it leaves alone."""

from __future__ import annotations

import pytest
from cdmo_harness.kubelet.device_manager import Capacity
from cdmo_harness.kubelet.devices import Device
from cdmo_harness.kubelet.node_status import patch, resources_after_tick, zeroed_extended

from tests.harness.kubelet.builders import ONE_G, SOCKET, Node

OWN = {"cpu": "64", "memory": "512Gi", "pods": "110"}
OTHER = "example.com/licence"


def tick(node: Node, capacity: dict[str, str], allocatable: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    return resources_after_tick(capacity, allocatable, OWN, node.manager.capacity())


def test_healthy_devices_are_capacity_and_allocatable() -> None:
    node = Node()
    node.offers("MIG-a", "MIG-b")
    capacity, allocatable = tick(node, {}, {})
    assert capacity == {**OWN, ONE_G: "2"}
    assert allocatable == capacity


def test_an_unhealthy_device_is_capacity_only() -> None:
    node = Node()
    node.offers("MIG-a")
    node.manager.devices_listed(ONE_G, [Device("MIG-a"), Device("MIG-b", "Unhealthy")])
    capacity, allocatable = tick(node, {}, {})
    assert (capacity[ONE_G], allocatable[ONE_G]) == ("2", "1")


def test_a_vanished_resource_keeps_its_capacity_for_five_minutes_and_its_key_for_ever() -> None:
    node = Node()
    node.offers("MIG-a")
    before = tick(node, {}, {})
    node.manager.plugin_disconnected(ONE_G, SOCKET)
    node.time += 300
    within = tick(node, *before)
    assert (within[0][ONE_G], within[1][ONE_G]) == ("1", "0")
    node.time += 1
    after = tick(node, *within)
    assert (after[0][ONE_G], after[1][ONE_G]) == ("0", "0")
    assert tick(node, *after) == after, "the kubelet has forgotten the resource and leaves its key"


def test_a_foreign_keys_allocatable_is_set_back_to_its_capacity() -> None:
    capacity, allocatable = tick(Node(), {OTHER: "5"}, {OTHER: "1"})
    assert (capacity[OTHER], allocatable[OTHER]) == ("5", "5")


def test_an_allocatable_key_without_capacity_is_removed() -> None:
    _, allocatable = tick(Node(), {}, {OTHER: "1"})
    assert OTHER not in allocatable


def test_what_somebody_wrote_about_a_registered_resource_is_overwritten() -> None:
    node = Node()
    node.offers("MIG-a")
    capacity, allocatable = tick(node, {ONE_G: "7"}, {ONE_G: "7"})
    assert (capacity[ONE_G], allocatable[ONE_G]) == ("1", "1")


def test_a_kubelet_without_a_checkpoint_zeroes_extended_resources_only() -> None:
    assert zeroed_extended({"cpu": "64", ONE_G: "7", OTHER: "2"}) == {"cpu": "64", ONE_G: "0", OTHER: "0"}


def test_the_patch_names_differing_keys_only() -> None:
    old = {"capacity": {"cpu": "64", ONE_G: "1"}, "allocatable": {"cpu": "64", OTHER: "1"}, "phase": "x"}
    new = {"capacity": {"cpu": "64", ONE_G: "2"}, "allocatable": {"cpu": "64"}, "phase": "x"}
    assert patch(old, new) == {"capacity": {ONE_G: "2"}, "allocatable": {OTHER: None}}
    assert patch(new, new) == {}


def test_a_quantity_spelled_otherwise_by_the_server_is_no_change() -> None:
    as_served = {"cpu": "64", "memory": "536870912Ki", "pods": "110"}
    none = Capacity({}, {}, frozenset())
    capacity, _ = resources_after_tick(as_served, as_served, OWN, none)
    assert capacity == as_served


@pytest.mark.parametrize("kubelet_minor", [36, 37])
def test_after_a_restart_known_resources_are_zero_until_the_plugin_is_back(kubelet_minor: int) -> None:
    node = Node(kubelet_minor)
    node.manager.restore(node.manager.pods, [ONE_G])
    capacity, allocatable = tick(node, {ONE_G: "7"}, {ONE_G: "7"})
    assert (capacity[ONE_G], allocatable[ONE_G]) == ("0", "0")
