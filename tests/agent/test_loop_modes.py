"""MIG mode through the agent's rounds: switched on where it may be, and a node's GPUs given back whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cdmo.agent.loop import LoopSettings
from cdmo.api.v1alpha1 import MigNodeStatus, Mode
from cdmo.errors import DriverFault, InUse
from cdmo.model.gpu import MigMode
from cdmo.model.modes import ModePolicy
from cdmo.model.names import PARTITIONING_LABEL
from cdmo.model.reasons import ModeReason
from tests.agent.bench import AgentBench
from tests.agent.nodes import BUS, SEVEN, THREE, THREE_HIGH, THREE_LOW, pod
from tests.fakes.node import WHOLE

A100 = "A100-SXM4-80GB"


@contextmanager
def bench_of(folder: Path, *slices: object, annotation: str = "", **more: object) -> Iterator[AgentBench]:
    made = AgentBench(folder, *slices, **more)  # type: ignore[arg-type]  # the slices' and options' types are AgentBench's
    annotate(made, annotation)
    yield made
    made.rig.worker.close()


def annotate(bench: AgentBench, word: str) -> None:
    bench.node.info = replace(bench.node.info, mig_mode=word)


def mode(bench: AgentBench) -> MigMode:
    return bench.gpus.gpus[BUS].mig_mode


def settled(bench: AgentBench) -> tuple[str, str]:
    found = bench.condition("MigModeSettled")
    return found.status, found.reason


async def test_a_gpu_without_mig_mode_stays_whole_while_nobody_allows_the_switch(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False) as bench:
        await bench.round()
        await bench.round(10.0)
        assert (mode(bench), bench.fences(), settled(bench)) == (MigMode.DISABLED, 0, ("True", ModeReason.AS_WANTED))


async def test_an_idle_hopper_is_switched_on_at_once_where_that_is_allowed(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        await bench.round()
        assert (mode(bench), bench.fences(), settled(bench)) == (MigMode.ENABLED, 1, ("True", ModeReason.AS_WANTED))
        assert bench.node.listed == {}, "the device plugin still offers the GPU as a whole"


async def test_the_agents_option_holds_where_the_node_says_nothing(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False) as bench:
        bench.settings = LoopSettings(modes=ModePolicy.WHEN_IDLE)
        bench.new_agent()
        await bench.round()
        assert mode(bench) is MigMode.ENABLED


async def test_a_gpu_that_a_pod_has_as_a_whole_is_switched_when_the_pod_is_gone(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        uuid = bench.gpus.gpus[BUS].uuid
        bench.node.admit(pod("whole", {WHOLE: 1}), {WHOLE: [f"{uuid}::1"]})
        await bench.round()
        assert (mode(bench), bench.fences(), settled(bench)) == (MigMode.DISABLED, 0, ("False", ModeReason.WAITING))
        assert "held as a whole by pod ml/whole" in bench.condition("MigModeSettled").message
        bench.node.pods.clear()
        bench.node.shown.clear()
        await bench.round()
        assert mode(bench) is MigMode.ENABLED


async def test_a_gpu_that_a_running_pod_may_hold_unseen_is_not_switched(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        bench.node.admit(pod("init-only", {WHOLE: 1}), {})
        await bench.round()
        assert (mode(bench), bench.fences()) == (MigMode.DISABLED, 0)


async def test_a_slice_is_cut_in_the_same_change_that_switches_the_mode(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        bench.want(THREE_LOW)
        await bench.round()
        assert (bench.rig.layout(), bench.fences()) == ({THREE_LOW}, 1)


async def test_the_fence_stays_until_the_kubelet_reported_that_a_whole_gpu_is_gone(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        bench.node.info = replace(bench.node.info, capacity={WHOLE: 1}, allocatable={WHOLE: 1})
        looks = 0

        def kubelet_reports(call: str) -> None:
            nonlocal looks
            if call == "node" and bench.node.calls.count("set_mig_capacity"):
                looks += 1
                assert bench.node.fenced
                if looks == 3:
                    bench.node.info = replace(bench.node.info, allocatable={WHOLE: 0})

        bench.node.on_call = kubelet_reports
        await bench.round()
        assert (looks >= 3, bench.node.fenced, mode(bench)) == (True, False, MigMode.ENABLED)


async def test_a_kubelet_that_never_reports_it_leaves_the_fence_up_and_is_told_of(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        bench.node.info = replace(bench.node.info, capacity={WHOLE: 1}, allocatable={WHOLE: 1})
        for phase in bench.rig.limits:
            bench.rig.limits[phase] = 0.2
        bench.new_agent()
        await bench.round()
        assert bench.node.fenced
        assert bench.condition().reason == "ChangeStuck"


async def test_a_driver_that_refuses_the_switch_is_asked_again_later(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, annotation="when-idle") as bench:
        bench.gpus.fail("set_mig_mode", InUse(f"switching MIG on on GPU {BUS}: in use", code=19))
        await bench.round()
        assert (mode(bench), bench.node.fenced, settled(bench)) == (
            MigMode.DISABLED,
            False,
            ("False", ModeReason.WAITING),
        )
        assert "in use" in bench.condition("MigModeSettled").message
        await bench.round(5.0)
        assert mode(bench) is MigMode.ENABLED


async def test_ampere_waits_for_whoever_may_reset_it(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, card=A100, annotation="when-idle") as bench:
        await bench.round()
        assert (mode(bench), settled(bench)) == (MigMode.DISABLED, ("False", ModeReason.RESET_NEEDED))
        annotate(bench, "with-reset")
        await bench.round()
        assert (mode(bench), settled(bench)) == (MigMode.ENABLED, ("True", ModeReason.AS_WANTED))


async def test_a_reset_that_fails_leaves_the_mode_noted_and_says_that_a_reboot_is_needed(tmp_path: Path) -> None:
    with bench_of(tmp_path, mig=False, card=A100, annotation="with-reset") as bench:
        bench.gpus.gpus[BUS].opened_by = ("nv-hostengine (77)",)
        await bench.round()
        assert (mode(bench), bench.node.fenced) == (MigMode.ENABLE_PENDING, False)
        assert settled(bench) == ("False", ModeReason.REBOOT_NEEDED)
        assert "nv-hostengine (77)" in bench.condition("MigModeSettled").message
        annotate(bench, "when-idle")
        await bench.round(60.0)
        assert settled(bench) == ("False", ModeReason.REBOOT_NEEDED)
        bench.gpus.reboot()
        await bench.round(60.0)
        assert settled(bench) == ("True", ModeReason.AS_WANTED)


async def test_a_disabled_node_gives_its_gpus_back_whole(tmp_path: Path) -> None:
    with bench_of(tmp_path, SEVEN) as bench:
        await bench.round()
        bench.want(SEVEN, mode=Mode.DISABLED)
        await bench.round()
        assert (mode(bench), bench.fences(), bench.node.fenced) == (MigMode.DISABLED, 1, False)
        assert bench.node.listed == {WHOLE: frozenset({bench.gpus.gpus[BUS].uuid})}
        assert (bench.condition().reason, bench.condition().message) == (
            "Disabled",
            "1 of 1 GPUs are whole: this node is disabled",
        )


async def test_slices_that_the_controller_never_saw_go_as_well(tmp_path: Path) -> None:
    with bench_of(tmp_path, THREE_LOW) as bench:
        await bench.round()
        bench.want(THREE_HIGH, mode=Mode.DISABLED)
        bench.unseen_by_the_controller()
        await bench.round()
        assert mode(bench) is MigMode.DISABLED


async def test_a_disabled_node_waits_for_the_pods_on_its_slices(tmp_path: Path) -> None:
    with bench_of(tmp_path, THREE_LOW, THREE_HIGH) as bench:
        bench.node.admit(pod("train", {THREE: 1}), {THREE: [bench.rig.uuids[THREE_LOW]]})
        await bench.round()
        bench.want(mode=Mode.DISABLED)
        await bench.round()
        assert (bench.rig.layout(), bench.fences()) == ({THREE_LOW, THREE_HIGH}, 0)
        assert "is held by pod ml/train" in bench.condition().message
        assert bench.node.info.allocatable.get(THREE, 0) == 0, "a new pod could still get the idle slice"
        bench.node.pods.clear()
        bench.node.shown.clear()
        await bench.round()
        assert mode(bench) is MigMode.DISABLED


async def test_a_switch_off_that_fails_does_not_bring_slices_back(tmp_path: Path) -> None:
    with bench_of(tmp_path, SEVEN) as bench:
        await bench.round()
        bench.want(mode=Mode.DISABLED)
        bench.gpus.fail("set_mig_mode", DriverFault("switching MIG off: unknown error", code=999))
        await bench.round()
        assert (bench.rig.layout(), mode(bench), bench.node.fenced) == (set(), MigMode.ENABLED, False)
        await bench.round(60.0)
        assert mode(bench) is MigMode.DISABLED


async def test_ampere_is_given_back_by_a_reboot_where_no_reset_is_allowed(tmp_path: Path) -> None:
    with bench_of(tmp_path, SEVEN, card=A100) as bench:
        await bench.round()
        bench.want(mode=Mode.DISABLED)
        await bench.round()
        assert (bench.rig.layout(), mode(bench)) == (set(), MigMode.DISABLE_PENDING)
        assert settled(bench) == ("False", ModeReason.REBOOT_NEEDED)


async def test_nothing_is_switched_off_once_the_label_is_gone_though_the_mirror_still_shows_it(
    tmp_path: Path,
) -> None:
    with bench_of(tmp_path, SEVEN) as bench:
        await bench.round()
        bench.lagging_node = bench.node.info
        bench.label()
        bench.want(mode=Mode.DISABLED)
        await bench.round()
        assert (bench.rig.layout(), mode(bench), bench.node.fenced) == ({SEVEN}, MigMode.ENABLED, False)


async def test_a_disabled_node_without_the_label_is_left_as_it_is(tmp_path: Path) -> None:
    with bench_of(tmp_path, SEVEN) as bench:
        await bench.round()
        bench.label()
        bench.want(mode=Mode.DISABLED)
        await bench.round()
        assert (bench.rig.layout(), bench.fences()) == ({SEVEN}, 0)


async def test_a_mode_that_a_reboot_took_from_a_disabled_node_does_not_come_back(tmp_path: Path) -> None:
    with bench_of(tmp_path, SEVEN) as bench:
        await bench.round()
        before: MigNodeStatus = bench.status
        bench.gpus.reboot()
        bench.boot_id = "boot-2"
        bench.new_agent()
        bench.want(mode=Mode.DISABLED)
        await bench.round()
        await bench.round(10.0)
        assert before.gpus[0].mig_mode == MigMode.ENABLED
        assert mode(bench) is MigMode.DISABLED


@pytest.mark.parametrize("on", [True, False], ids=["switched-on-by-hand", "switched-off-by-hand"])
async def test_a_mode_switched_by_hand_is_noticed_and_the_plugin_looks_again(on: bool, tmp_path: Path) -> None:
    """`nvidia-smi -mig 1` as on the page: the plugin goes on offering the GPU as a whole until somebody tells it."""
    with bench_of(tmp_path, mig=not on) as bench:
        await bench.round()
        bench.gpus.set_mig_mode(BUS, on)
        await bench.round()
        await bench.round(bench.settings.look_every)
        whole = {} if on else {WHOLE: frozenset({bench.gpus.gpus[BUS].uuid})}
        assert (bench.node.listed, bench.fences()) == (whole, 1)
        assert PARTITIONING_LABEL in bench.node.info.labels
