"""The last look before anything is destroyed."""

from __future__ import annotations

from cdmo.agent.guard import Evidence, GpuWitness, Witness, hidden_resources, refusals, unexplained
from cdmo.agent.steps import Action, Step
from cdmo.model.cluster import PodInfo
from cdmo.model.gpu import Placement, PodKey
from tests.agent.cards import BUS, OTHER_BUS

ONE = "nvidia.com/mig-1g.10gb"
DESTROY = Step(Action.DESTROY, BUS, Placement(19, 6))
CREATE = Step(Action.CREATE, BUS, Placement(19, 5))


def pod(name: str, *, count: int = 1, phase: str = "Pending", node: str = "n") -> PodInfo:
    return PodInfo(PodKey("ml", name, name), requests={ONE: count}, phase=phase, node_name=node)


def evidence(**changes: object) -> Evidence:
    base: dict[str, object] = {
        "slices": {(BUS, (19, 6)): Witness(ONE, "MIG-a"), (OTHER_BUS, (19, 0)): Witness(ONE, "MIG-b")},
        "gpus": {BUS: GpuWitness("GPU-a"), OTHER_BUS: GpuWitness("GPU-b")},
        "holders": {},
        "bound": (),
        "hidden": {},
    }
    return Evidence(**(base | changes))  # type: ignore[arg-type]


def test_an_idle_slice_may_go() -> None:
    assert refusals((DESTROY, CREATE), evidence()) == {}


def test_a_slice_that_a_pod_holds_stays() -> None:
    found = refusals((DESTROY,), evidence(holders={"MIG-a": PodKey("ml", "train")}))
    assert found == {BUS: f"{ONE} at slot 6 of GPU {BUS} is held by pod ml/train"}


def test_a_slice_with_a_process_stays_even_when_no_pod_holds_it() -> None:
    slices = {(BUS, (19, 6)): Witness(ONE, "MIG-a", processes=(4711,))}
    found = refusals((DESTROY,), evidence(slices=slices))
    assert found == {BUS: f"{ONE} at slot 6 of GPU {BUS} still has process 4711 running on it"}


def test_what_stays_must_cover_the_pods_bound_to_the_node() -> None:
    found = refusals((DESTROY,), evidence(bound=(pod("a"), pod("b"))))
    assert found == {BUS: f"pods bound to the node ask for 2 {ONE}, only 1 would stay"}


def test_a_finished_pod_needs_nothing_any_more() -> None:
    assert refusals((DESTROY,), evidence(bound=(pod("a"), pod("b", phase="Succeeded")))) == {}


def test_a_resource_some_of_which_is_held_unseen_is_not_destroyed() -> None:
    holder = pod("init-only", phase="Running")
    found = refusals((DESTROY,), evidence(hidden=hidden_resources((holder,), {})))
    assert "may be the one that pod ml/init-only holds" in found[BUS]


def test_mode_is_not_switched_on_under_a_process() -> None:
    step = Step(Action.ENABLE_MIG, BUS)
    assert refusals((step,), evidence(gpus={BUS: GpuWitness("GPU-a", (7,))})) == {
        BUS: f"GPU {BUS} still has process 7 running on it"
    }


def test_mode_is_not_switched_on_while_a_pod_has_the_whole_gpu() -> None:
    step = Step(Action.ENABLE_MIG, BUS)
    assert BUS in refusals((step,), evidence(holders={"GPU-a": PodKey("ml", "whole")}))


def test_a_bound_pod_that_shows_no_device_is_unexplained() -> None:
    assert unexplained((pod("a"), pod("b")), {"MIG-a": PodKey("ml", "a")}) == (pod("b"),)


def test_a_pod_that_shows_fewer_devices_than_it_asked_for_is_unexplained() -> None:
    assert unexplained((pod("a", count=2),), {"MIG-a": PodKey("ml", "a")}) == (pod("a", count=2),)


def test_a_pod_that_is_only_nominated_is_not_waited_for() -> None:
    assert unexplained((pod("a", node=""),), {}) == ()
