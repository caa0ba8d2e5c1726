"""The model is the code's protocol: what the real change does, when calls fail and it is killed too, the model does.

Each call that a change makes is made to fail once, and to be the one at which it is killed; what was done until then,
and what that left on the Node and on disk, must be something that the model's agent can do and leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdmo.model.cluster import carries_fence
from cdmo.model.gpu import Placement
from cdmo.model.names import FENCE_CHANGING, FENCE_LABEL
from tests.agent.nodes import SEVEN, THREE_LOW, Rig, pod
from tests.protocol.conformance import killed, walk
from tests.protocol.flow import FLOW
from tests.protocol.recorder import Recorder
from tests.protocol.state import HOLDS, NONE, Link, State, start

SEVENS: Mapping[str, int] = {"nvidia.com/mig-7g.80gb": 1}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a change finds, and what it is to do. In the model: slice 0 is there, and goes or stays."""

    name: str
    wanted: tuple[Placement, ...]
    owed: bool = False
    held: bool = False  # by a running pod
    plugin: bool = True

    def rig(self, folder: Path) -> Rig:
        rig = Rig(folder, SEVEN)
        rig.node.plugin_runs = self.plugin
        if self.held:
            rig.node.admit(pod("train", SEVENS), {"nvidia.com/mig-7g.80gb": [rig.uuids[SEVEN]]})
        return rig

    def model(self) -> State:
        rested = start(pods=1, servers=2, slices=1)
        node = rested.node if self.plugin else rested.node._replace(link=Link.DEAD, listed=NONE)
        return rested._replace(pods=(HOLDS,) if self.held else rested.pods, node=node)


SCENES = (
    Scene("a slice goes", ()),
    Scene("a slice goes and another is made", (THREE_LOW,)),
    Scene("nothing is to be done", (SEVEN,)),
    Scene("an earlier change is owed", (SEVEN,), owed=True),
    Scene("the slice is held", (THREE_LOW,), held=True),
    Scene("there is no plugin", (), plugin=False),
)


def left_behind(rig: Rig) -> tuple[bool, str, bool]:
    """Journal, label and taint as they are now."""
    taints = bool(rig.node.info.taints)
    label = rig.node.info.labels.get(FENCE_LABEL, "")
    assert carries_fence(rig.node.info) is bool(label or taints)
    return rig.journal.read() is not None, label, taints


def could_leave(states: Iterable[State]) -> set[tuple[bool, str, bool]]:
    """The same of the model, where its agent is between two changes."""
    return {
        (
            each.agent.journal,
            "" if not each.api.label else FENCE_CHANGING if each.api.changing else "true",
            each.api.tainted,
        )
        for each in states
        if each.agent.step == "idle"
    }


async def recorded(rig: Rig, scene: Scene, *, fail_at: int = -1, kill_at: int = -1, lose_at: int = -1) -> Recorder:
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(rig, patch, fail_at=fail_at, kill_at=kill_at, lose_at=lose_at)
        await recorder.run(rig.new_change(recorder), *scene.wanted, owed=scene.owed)
        rig.node.on_call = rig.gpus.on_call = lambda _: None
    return recorder


async def calls_of(scene: Scene, folder: Path) -> int:
    folder.mkdir()
    rig = scene.rig(folder)
    recorder = await recorded(rig, scene)
    rig.worker.close()
    return len(recorder.calls)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_a_change_does_what_the_model_does(scene: Scene, tmp_path: Path) -> None:
    rig = scene.rig(tmp_path)
    recorder = await recorded(rig, scene)
    assert left_behind(rig) in could_leave(walk([scene.model()], recorder.trace)), recorder.trace
    rig.worker.close()


async def test_a_whole_change_takes_every_step_of_the_flow_but_those_of_failures(tmp_path: Path) -> None:
    rig = SCENES[1].rig(tmp_path)
    recorder = await recorded(rig, SCENES[1])
    assert recorder.trace == [each for each in FLOW if each not in ("idle", "apply.undo", "publish.nothing")]
    rig.worker.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_whichever_call_fails_the_model_knows_what_follows(scene: Scene, tmp_path: Path) -> None:
    for number in range(await calls_of(scene, tmp_path / "whole")):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = scene.rig(folder)
        recorder = await recorded(rig, scene, fail_at=number)
        ends = could_leave(walk([scene.model()], recorder.trace))
        assert left_behind(rig) in ends, (recorder.calls[number], recorder.trace)
        rig.worker.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_whichever_answer_is_lost_the_model_knows_what_follows(scene: Scene, tmp_path: Path) -> None:
    for number in range(await calls_of(scene, tmp_path / "whole")):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = scene.rig(folder)
        recorder = await recorded(rig, scene, lose_at=number)
        ends = could_leave(walk([scene.model()], recorder.trace))
        assert left_behind(rig) in ends, (recorder.calls[number], recorder.trace)
        rig.worker.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_wherever_the_agent_is_killed_the_next_one_does_what_the_model_does(
    scene: Scene, tmp_path: Path
) -> None:
    for number in range(await calls_of(scene, tmp_path / "whole")):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = scene.rig(folder)
        first = await recorded(rig, scene, kill_at=number)
        left = killed(walk([scene.model()], first.trace))
        assert left_behind(rig) in could_leave(left), (first.calls[number], first.trace)
        rest = [each for each in left if left_behind(rig) in could_leave([each])]
        second = await recorded(rig, Scene(scene.name, scene.wanted, True, scene.held, scene.plugin))
        assert left_behind(rig) == (False, "", False), (first.calls[number], second.trace)
        assert left_behind(rig) in could_leave(walk(rest, second.trace)), (first.trace, second.trace)
        rig.worker.close()


@pytest.mark.parametrize(
    "forged",
    [
        ["fence.taint", "fence.label", "fence.probe", "fence.mark", "quiet.list"],  # did not settle
        ["fence.label"],  # no taint first
        ["fence.taint", "fence.label", "fence.probe", "fence.mark", "fence.settle", "quiet.list", "quiet.driver"],
        ["fence.taint", "fence.label", "fence.probe", "lower.taint"],  # taint before label
    ],
    ids=lambda forged: forged[-1],
)
def test_a_trace_that_leaves_out_a_step_is_not_the_models(forged: list[str]) -> None:
    assert not walk([SCENES[0].model()], forged)
