"""Writing plans: only what changed, only onto what was planned from."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cdmo.api.v1alpha1 import AgentInfo, GpuLayout, MigNode, MigNodeSpec, Mode, ObservedDevice, PlacedProfile
from cdmo.controller.publish import Publisher, overtaken, spec_after
from cdmo.errors import ClusterUnavailable, Denied
from cdmo.model.gpu import Placement
from cdmo.model.plan import GpuChange, Plan
from tests.builders import BUS, IDLE, h100, node
from tests.controller.bench import mignode_of
from tests.fakes.mignodes import FakeMigNodes

LAYOUT = (Placement(9, 4),)


def change(name: str = "gpu-1", gpu: str = BUS[0]) -> GpuChange:
    return GpuChange(name, gpu, LAYOUT, create=LAYOUT, destroy=())


def stored(name: str = "gpu-1") -> MigNode:
    return mignode_of(node(name, [h100(), h100(desired=["7g.80gb@0"])]))


async def publish(api: FakeMigNodes, *changes: GpuChange, seen: dict[str, MigNode] | None = None) -> frozenset[str]:
    return await Publisher(api).publish(
        Plan(changes=changes), (dict(api.nodes) if seen is None else seen).get, (), ()
    )


async def test_a_spec_carries_the_revision_it_was_planned_from_and_keeps_other_gpus() -> None:
    api = FakeMigNodes(stored())
    assert not await publish(api, change())
    spec = api.nodes["gpu-1"].spec
    assert spec.observed_revision == 7
    assert spec.gpus == (
        GpuLayout(pci_bus_id=BUS[0], layout=(PlacedProfile(profile_id=9, start=4),)),
        GpuLayout(pci_bus_id=BUS[1], layout=(PlacedProfile(profile_id=0, start=0),)),
    )


async def test_nodes_without_a_change_are_not_written() -> None:
    api = FakeMigNodes(stored("gpu-1"), stored("gpu-2"))
    await publish(api, change("gpu-2"))
    assert api.calls == ["write_spec gpu-2"]


async def test_an_administrators_mode_is_never_written_over() -> None:
    api = FakeMigNodes(stored())
    seen = dict(api.nodes)
    api.nodes["gpu-1"] = replace(api.nodes["gpu-1"], spec=replace(api.nodes["gpu-1"].spec, mode=Mode.DISABLED))
    await publish(api, change(), seen=seen)
    assert api.nodes["gpu-1"].spec.mode is Mode.DISABLED


async def test_a_heartbeat_between_plan_and_write_does_not_cost_a_round() -> None:
    api = FakeMigNodes(stored())
    seen = dict(api.nodes)
    agent = AgentInfo(version="1", heartbeat="2026-01-01T00:00:10Z")
    api.set_status("gpu-1", replace(api.nodes["gpu-1"].status, agent=agent))
    assert await publish(api, change(), seen=seen) == frozenset()
    assert api.nodes["gpu-1"].spec.gpus[0].layout == (PlacedProfile(profile_id=9, start=4),)
    assert api.nodes["gpu-1"].metadata.generation == 2


async def test_a_new_instance_in_the_status_costs_a_round() -> None:
    api = FakeMigNodes(stored())
    seen = dict(api.nodes)
    status = api.nodes["gpu-1"].status
    first = replace(status.gpus[0], devices=(ObservedDevice(profile_id=0, start=0, uuid="MIG-new", revision=8),))
    api.set_status("gpu-1", replace(status, revision=8, gpus=(first, *status.gpus[1:])))
    assert await publish(api, change(), seen=seen) == {"gpu-1"}
    assert api.nodes["gpu-1"].metadata.generation == 1


def late(placement: Placement, revision: int) -> MigNode:
    """A MigNode that asks for 7g.80gb on its second GPU, with an instance there."""
    there = stored()
    device = ObservedDevice(
        profile_id=placement.profile_id, start=placement.start, uuid="MIG-late", revision=revision
    )
    status = replace(
        there.status, revision=revision, gpus=(there.status.gpus[0], replace(there.status.gpus[1], devices=(device,)))
    )
    return replace(there, status=status, spec=replace(there.spec, observed_revision=7))


async def test_a_layout_that_an_instance_overtook_is_confirmed_with_the_revision_that_was_planned_from() -> None:
    """Or the agent would wait for ever: nothing in the layout changes, and the instance counts as never seen."""
    overtaken_one = late(Placement(19, 2), revision=8)
    api = FakeMigNodes(overtaken_one)
    assert not await Publisher(api).publish(Plan(), dict(api.nodes).get, (), {"gpu-1"})
    assert api.nodes["gpu-1"].spec == replace(overtaken_one.spec, observed_revision=8)
    assert not overtaken(api.nodes["gpu-1"])


@pytest.mark.parametrize(
    ("placement", "revision", "expected"),
    [(Placement(19, 2), 8, True), (Placement(19, 2), 7, False), (Placement(0, 0), 8, False)],
    ids=["younger and left out", "seen before", "part of the layout"],
)
def test_what_overtakes_a_layout_is_an_instance_that_is_younger_and_left_out(
    placement: Placement, revision: int, expected: bool
) -> None:
    assert overtaken(late(placement, revision)) is expected


async def test_a_slice_that_came_into_use_costs_a_round() -> None:
    api = FakeMigNodes(mignode_of(node("gpu-1", [h100(slices={"3g.40gb@0": IDLE})])))
    seen = dict(api.nodes)
    api.set_status("gpu-1", mignode_of(node("gpu-1", [h100(slices={"3g.40gb@0": "ml/old"})])).status)
    assert await publish(api, change(), seen=seen) == {"gpu-1"}


async def test_a_spec_somebody_else_wrote_costs_a_round() -> None:
    api = FakeMigNodes(stored())
    seen = dict(api.nodes)
    api.set_spec("gpu-1", MigNodeSpec(mode=Mode.DISABLED))
    assert await publish(api, change(), seen=seen) == {"gpu-1"}
    assert api.nodes["gpu-1"].spec == MigNodeSpec(mode=Mode.DISABLED)


async def test_a_mignode_made_anew_meanwhile_costs_a_round() -> None:
    api = FakeMigNodes(stored())
    seen = dict(api.nodes)
    api.put(stored())
    assert await publish(api, change(), seen=seen) == {"gpu-1"}


@pytest.mark.parametrize("failure", [ClusterUnavailable("no answer"), Denied("not allowed")])
async def test_a_node_that_cannot_be_written_does_not_hold_up_others(failure: Denied | ClusterUnavailable) -> None:
    api = FakeMigNodes(stored("gpu-1"), stored("gpu-2"))
    api.fails["write_spec"] = [failure]
    assert await publish(api, change("gpu-1"), change("gpu-2")) == {"gpu-1"}
    assert api.nodes["gpu-2"].metadata.generation == 2


async def test_a_node_whose_mignode_is_gone_is_to_be_planned_again() -> None:
    api = FakeMigNodes(stored())
    seen = dict(api.nodes)
    api.nodes.clear()
    assert await publish(api, change(), seen=seen) == {"gpu-1"}


async def test_a_mignode_is_made_for_each_node_that_has_none_and_owned_by_its_node() -> None:
    api = FakeMigNodes(stored("gpu-1"))
    nodes = [node(name).node for name in ("gpu-1", "gpu-2")]
    await Publisher(api).ensure_mignodes(nodes, dict(api.nodes))
    assert api.calls == ["create gpu-2"]
    (owner,) = api.nodes["gpu-2"].metadata.owner_references
    assert (owner.api_version, owner.kind, owner.name, owner.uid) == ("v1", "Node", "gpu-2", "uid-gpu-2")


async def test_making_a_mignode_that_is_there_or_not_allowed_stops_nothing() -> None:
    api = FakeMigNodes(stored("gpu-1"))
    api.fails["create"] = [Denied("not allowed")]
    await Publisher(api).ensure_mignodes([node("gpu-2").node, node("gpu-1").node, node("gpu-3").node], {})
    assert set(api.nodes) == {"gpu-1", "gpu-3"}


def test_a_hand_broken_spec_is_written_anew_from_the_changes() -> None:
    broken = stored()
    twice = GpuLayout(pci_bus_id=BUS[0], layout=(PlacedProfile(profile_id=19, start=0),) * 2)
    spec = spec_after(replace(broken, spec=replace(broken.spec, gpus=(twice,))), [change()], {})
    assert spec.gpus == (GpuLayout(pci_bus_id=BUS[0], layout=(PlacedProfile(profile_id=9, start=4),)),)


def test_gpus_that_left_the_node_leave_the_spec() -> None:
    there = stored()
    gone = GpuLayout(pci_bus_id=BUS[5], layout=())
    spec = spec_after(replace(there, spec=replace(there.spec, gpus=(gone,))), [change()], {})
    assert [each.pci_bus_id for each in spec.gpus] == [BUS[0]]
