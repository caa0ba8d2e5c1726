"""`cdmo enable`: a node given to CDMO."""

from __future__ import annotations

import pytest

from cdmo.errors import BadInput, ChangeStuck
from cdmo.handover.enable import Coming, Enabler
from cdmo.model.modes import ModePolicy
from cdmo.model.names import MIG_MODE_ANNOTATION, PARTITIONING_LABEL
from tests.handover.cluster import NAME, UNCUT, FakeCluster

PLUGIN = "nvidia.com/gpu.deploy.device-plugin"
ON = f"mark {PARTITIONING_LABEL}=mig"


class Command:
    """The command, and what it said."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.said: list[str] = []
        self.enabler = Enabler(cluster, cluster.clock, self.said.append)

    async def run(self, modes: ModePolicy = ModePolicy.WHEN_IDLE, limit: float = 60.0) -> None:
        await self.enabler.check(NAME)
        await self.enabler.run(NAME, Coming(modes, limit))


@pytest.fixture
def cluster() -> FakeCluster:
    made = FakeCluster(on=False)
    made.unlabel()
    return made


async def test_mig_mode_comes_on_and_the_label_with_it(cluster: FakeCluster) -> None:
    command = Command(cluster)
    await command.run()
    assert cluster.calls == [f"{ON} {MIG_MODE_ANNOTATION}=when-idle"]
    assert (cluster.modes(), command.said[-1]) == (["Enabled", "Enabled"], f"{NAME}: MIG mode is on on 2 of 2 GPUs")


async def test_a_disabled_node_is_managed_again_before_it_gets_the_label(cluster: FakeCluster) -> None:
    await cluster.set_mode(NAME, cluster.object.spec.mode.DISABLED)  # type: ignore[union-attr]  # it is there
    cluster.calls.clear()
    await Command(cluster).run()
    assert cluster.calls == ["mode Managed", f"{ON} {MIG_MODE_ANNOTATION}=when-idle"]


async def test_with_manual_mig_mode_is_left_as_it_is(cluster: FakeCluster) -> None:
    command = Command(cluster)
    await command.run(ModePolicy.MANUAL)
    assert (cluster.calls, cluster.modes()) == ([ON], ["Disabled", "Disabled"])
    assert command.said[-1] == f"{NAME}: MIG mode is on on 0 of 2 GPUs; the others stay whole"


async def test_ampere_is_told_to_need_a_reset(cluster: FakeCluster) -> None:
    cluster.resetless = False
    with pytest.raises(ChangeStuck, match="cannot go on by itself") as told:
        await Command(cluster).run()
    assert told.value.hint.startswith("allow the reset (`--reset`)")


async def test_with_reset_nvidias_programs_stand_still_for_it(cluster: FakeCluster) -> None:
    cluster.resetless = False
    await cluster.mark_node(NAME, {PLUGIN: "true"}, {})
    cluster.run_pod("plugin", "", "DaemonSet", node_selector=((PLUGIN, "true"),))
    await Command(cluster).run(ModePolicy.WITH_RESET)
    assert cluster.modes() == ["Enabled", "Enabled"]
    assert [each for each in cluster.calls if PLUGIN in each][1:] == [
        f"mark {PLUGIN}=paused-for-cdmo",
        f"mark {PLUGIN}=true",
    ]


async def test_programs_that_do_not_go_are_named_and_started_again(cluster: FakeCluster) -> None:
    await cluster.mark_node(NAME, {PLUGIN: "true"}, {})

    def comes_back(look: int) -> None:
        cluster.run_pod("stays", "", node_selector=((PLUGIN, "true"),))

    cluster.on_look = comes_back
    with pytest.raises(ChangeStuck, match="do not go: ml/stays"):
        await Command(cluster).run(ModePolicy.WITH_RESET)
    assert cluster.info is not None
    assert cluster.info.labels[PLUGIN] == "true"


async def test_a_card_without_mig_gets_no_label(cluster: FakeCluster) -> None:
    cluster = FakeCluster(model=UNCUT, on=False)
    cluster.unlabel()
    with pytest.raises(BadInput, match="no GPU of node gpu-1 can be cut"):
        await Command(cluster).run()
    assert cluster.calls == []


async def test_a_card_that_turns_out_to_have_no_mig_loses_the_label_again() -> None:
    cluster = FakeCluster(model=UNCUT, on=False)
    cluster.unlabel()
    command = Command(cluster)
    with pytest.raises(BadInput, match="no GPU of node gpu-1 can be cut"):
        await command.enabler.run(NAME, Coming(limit=60.0))  # nothing had been reported when it was checked
    assert cluster.calls[-1] == f"mark {PARTITIONING_LABEL}- {MIG_MODE_ANNOTATION}-"


async def test_a_controller_that_makes_no_mignode_is_told_of(cluster: FakeCluster) -> None:
    cluster.object = None
    with pytest.raises(ChangeStuck, match="not done after 60 s: the controller has made no MigNode yet"):
        await Command(cluster).run()


async def test_a_dry_run_says_what_would_be_done(cluster: FakeCluster) -> None:
    assert await Command(cluster).enabler.plan(NAME, Coming()) == (
        f"{NAME}: annotate with {MIG_MODE_ANNOTATION}=when-idle",
        f"{NAME}: label with {PARTITIONING_LABEL}=mig",
    )
    assert cluster.calls == []


async def test_it_may_be_repeated(cluster: FakeCluster) -> None:
    await Command(cluster).run()
    await Command(cluster).run()
    assert await Command(cluster).enabler.plan(NAME, Coming()) == (f"{NAME}: nothing, it is CDMO's already",)
