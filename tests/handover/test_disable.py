"""`cdmo disable`: a node's GPUs back whole."""

from __future__ import annotations

import pytest

from cdmo.errors import BadInput, ChangeStuck
from cdmo.handover.disable import Disabler, Leaving
from cdmo.model.gpu import MigMode
from cdmo.model.names import MIG_MODE_ANNOTATION, PARTITIONING_LABEL
from tests.handover.cluster import NAME, SLICE, UNCUT, WHOLE, FakeCluster

PLUGIN = "nvidia.com/gpu.deploy.device-plugin"
EXPORTER = "nvidia.com/gpu.deploy.dcgm-exporter"
OFF = f"mark {PARTITIONING_LABEL}- {MIG_MODE_ANNOTATION}-"


class Command:
    """The command, and what it said."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.said: list[str] = []
        self._disabler = Disabler(cluster, cluster.clock, self.said.append)

    async def run(self, **how: object) -> None:
        leaving = Leaving(**how)  # type: ignore[arg-type]  # Leaving's own fields
        await self._disabler.check(NAME, leaving)
        await self._disabler.run(NAME, leaving)

    async def plan(self) -> tuple[str, ...]:
        return await self._disabler.plan(NAME)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


async def test_an_idle_node_is_given_back_whole_and_its_label_goes_last(cluster: FakeCluster) -> None:
    command = Command(cluster)
    await command.run()
    assert cluster.modes() == ["Disabled", "Disabled"]
    assert (cluster.calls[0], cluster.calls[-2:]) == ("mode Disabled", [OFF, "mode Managed"])
    assert command.said[-2:] == [
        f"{NAME}: offers 2 whole GPUs",
        f"{NAME}: its GPUs are whole, and CDMO's label is off",
    ]


async def test_it_refuses_while_pods_use_the_gpus_and_names_them(cluster: FakeCluster) -> None:
    cluster.run_pod("train")
    cluster.run_pod("whole", WHOLE)
    cluster.run_pod("web", "")
    with pytest.raises(BadInput, match=r"ml/train \(1 nvidia.com/mig-3g.40gb\), ml/whole \(1 nvidia.com/gpu\)$"):
        await Command(cluster).run()
    assert cluster.calls == []


async def test_with_wait_nobody_new_gets_a_slice_and_the_pods_are_waited_for(cluster: FakeCluster) -> None:
    key = cluster.run_pod("train")
    cluster.on_look = lambda look: cluster.pods.pop(key, None) if look == 6 else None  # type: ignore[assignment,return-value]  # a test's knob
    command = Command(cluster)
    await command.run(wait=True)
    assert cluster.calls[0] == "mode Disabled"
    assert f"{NAME}: waiting for ml/train (1 {SLICE})" in command.said
    assert cluster.modes() == ["Disabled", "Disabled"]


async def test_with_drain_they_are_evicted_as_often_as_their_budgets_want(cluster: FakeCluster) -> None:
    cluster.run_pod("train")
    cluster.budget = 2
    command = Command(cluster)
    await command.run(drain=True)
    assert (cluster.calls.count("evict ml/train"), cluster.modes()) == (3, ["Disabled", "Disabled"])
    why = f"{NAME}: not evicted yet: too many requests: a PodDisruptionBudget"
    assert command.said.count(why) == 1, "what hinders is told, and not again and again"


async def test_a_daemonsets_pod_is_not_evicted_for_it_would_come_back(cluster: FakeCluster) -> None:
    cluster.run_pod("everywhere", owner="DaemonSet")
    with pytest.raises(BadInput, match="DaemonSets would make these pods on node gpu-1 anew: ml/everywhere"):
        await Command(cluster).run(drain=True)
    assert cluster.calls == []


async def test_a_pod_that_comes_in_the_last_moment_stops_it(cluster: FakeCluster) -> None:
    def comes(look: int) -> None:
        if "mode Disabled" in cluster.calls and not cluster.pods:
            cluster.run_pod("late")

    cluster.on_look = comes
    with pytest.raises(BadInput, match="came to use the GPUs of node gpu-1 in the last moment: ml/late"):
        await Command(cluster).run()
    assert cluster.modes() == ["Enabled", "Enabled"]


async def test_it_may_be_repeated_and_does_nothing_twice(cluster: FakeCluster) -> None:
    await Command(cluster).run()
    cluster.calls.clear()
    await Command(cluster).run()
    assert cluster.calls == [OFF, "mode Managed"]


@pytest.mark.parametrize("call", range(3))
async def test_interrupted_anywhere_the_same_command_finishes(call: int) -> None:
    cluster = FakeCluster()
    count = 0

    def interrupts(look: int) -> None:
        nonlocal count
        if look == 2 * (call + 1):
            count += 1
            raise KeyboardInterrupt

    cluster.on_look = interrupts
    with pytest.raises(KeyboardInterrupt):
        await Command(cluster).run()
    cluster.on_look = lambda _: None
    await Command(cluster).run()
    assert (count, cluster.modes(), cluster.calls[-1]) == (1, ["Disabled", "Disabled"], "mode Managed")


async def test_a_node_whose_label_was_taken_off_by_hand_gets_its_agent_back_for_it(cluster: FakeCluster) -> None:
    """The page's step 2 leaves the slices: nobody is there any more who would destroy them."""
    cluster.unlabel()
    await Command(cluster).run()
    assert (cluster.modes(), cluster.info and PARTITIONING_LABEL in cluster.info.labels) == (
        ["Disabled", "Disabled"],
        False,
    )


async def test_ampere_needs_a_reboot_and_the_next_run_finishes() -> None:
    cluster = FakeCluster(resetless=False)
    with pytest.raises(ChangeStuck, match="cannot go on by itself") as told:
        await Command(cluster).run()
    assert "reboot the node" in told.value.hint
    assert MigMode.DISABLE_PENDING in cluster.modes()
    cluster.resetless = True  # what a reboot comes to
    await Command(cluster).run()
    assert cluster.modes() == ["Disabled", "Disabled"]


async def test_with_reset_nvidias_programs_are_stopped_meanwhile_and_started_again_in_order() -> None:
    cluster = FakeCluster(resetless=False)
    assert cluster.info is not None
    await cluster.mark_node(NAME, {PLUGIN: "true", EXPORTER: "true"}, {})
    for name, label in (("plugin", PLUGIN), ("exporter", EXPORTER)):
        cluster.run_pod(name, "", "DaemonSet", node_selector=((label, "true"),))
    cluster.calls.clear()
    await Command(cluster).run(reset=True)
    assert cluster.modes() == ["Disabled", "Disabled"]
    paused = f"mark {PLUGIN}=paused-for-cdmo {EXPORTER}=paused-for-cdmo"
    started = [f"mark {PLUGIN}=true", f"mark {EXPORTER}=true"]
    assert [each for each in cluster.calls if "gpu.deploy" in each] == [paused, *started]


async def test_programs_that_an_interrupted_command_stopped_are_started_by_the_next(cluster: FakeCluster) -> None:
    await cluster.mark_node(NAME, {PLUGIN: "paused-for-cdmo", EXPORTER: "false"}, {})
    await Command(cluster).run()
    assert cluster.info is not None
    assert (cluster.info.labels[PLUGIN], cluster.info.labels[EXPORTER]) == ("true", "false")


async def test_a_silent_agent_is_named_when_the_time_is_over(cluster: FakeCluster) -> None:
    cluster.agent = False
    with pytest.raises(ChangeStuck, match=r"not done after 120 s: its agent has been silent for 1\d\d s"):
        await Command(cluster).run(limit=120.0)


async def test_a_node_without_a_device_plugin_is_left_with_a_word_about_it(cluster: FakeCluster) -> None:
    cluster.plugin = False
    command = Command(cluster)
    await command.run()
    assert f"{NAME}: offers 0 whole GPUs of 2: is NVIDIA's device plugin there?" in command.said


async def test_a_dry_run_says_what_would_be_done(cluster: FakeCluster) -> None:
    cluster.run_pod("train")
    assert await Command(cluster).plan() == (
        f"{NAME}: pods to wait for or to evict: ml/train (1 {SLICE})",
        f"{NAME}: destroy 0 slices, switch MIG mode off on 2 GPUs",
        f"{NAME}: take the label {PARTITIONING_LABEL} off",
    )
    assert cluster.calls == []


async def test_a_node_that_does_not_exist_is_told_in_a_sentence(cluster: FakeCluster) -> None:
    cluster.info = None
    with pytest.raises(BadInput, match="there is no node gpu-1"):
        await Command(cluster).run()


async def test_a_node_that_was_never_cdmos_is_left_alone(cluster: FakeCluster) -> None:
    cluster.object = None
    with pytest.raises(BadInput, match="is none of CDMO's: it has no MigNode"):
        await Command(cluster).run()
    assert cluster.calls == []


async def test_cards_without_mig_are_whole_already() -> None:
    cluster = FakeCluster(model=UNCUT)
    await Command(cluster).run()
    assert cluster.calls == [OFF, "mode Managed"]
