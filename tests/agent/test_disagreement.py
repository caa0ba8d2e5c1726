"""When the device plugin has to look again: a difference that lasts, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdmo.agent.disagreement import Disagreement
from tests.agent.nodes import BUS, THREE, THREE_HIGH, THREE_LOW, Rig

LASTING = 5.0


class Bench:
    """A node whose kubelet lists what the plugin enumerated last."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder, THREE_LOW)
        self.disagreement = Disagreement(self.rig.clock, LASTING)

    async def look(self, after: float = 0.0) -> frozenset[str]:
        self.rig.clock.jump(after)
        return self.disagreement.to_reload_for(await self.rig.observer.look(), self.rig.node.listed)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.rig.worker.close()


async def test_where_kubelet_and_hardware_agree_there_is_nothing_to_do(bench: Bench) -> None:
    assert not await bench.look()
    assert not bench.disagreement.seen


async def test_a_difference_counts_when_it_lasts(bench: Bench) -> None:
    made = bench.rig.gpus.create(BUS, THREE_HIGH)
    assert not await bench.look()
    assert bench.disagreement.seen
    assert not await bench.look(after=4.0)
    assert await bench.look(after=1.0) == {made.device_uuid}


async def test_one_that_changes_begins_anew(bench: Bench) -> None:
    made = bench.rig.gpus.create(BUS, THREE_HIGH)
    await bench.look()
    bench.rig.gpus.destroy(BUS, made.id, THREE_HIGH)
    assert not await bench.look(after=4.0)
    bench.rig.gpus.create(BUS, THREE_HIGH)
    assert not await bench.look(after=4.0)
    assert await bench.look(after=5.0)


async def test_after_a_reload_that_did_not_help_the_same_difference_is_left_alone(bench: Bench) -> None:
    bench.rig.gpus.create(BUS, THREE_HIGH)
    await bench.look()
    assert await bench.look(after=5.0)
    bench.disagreement.reloaded()
    bench.disagreement.ended()
    for _ in range(5):
        assert not await bench.look(after=5.0)


async def test_a_plugin_that_lists_nothing_after_its_reload_is_not_asked_again_and_again(bench: Bench) -> None:
    bench.rig.node.listed = {}
    await bench.look()
    assert await bench.look(after=5.0)
    bench.disagreement.reloaded()
    for _ in range(5):
        assert not await bench.look(after=5.0)
    assert not bench.disagreement.seen


async def test_once_they_agreed_the_same_difference_counts_again(bench: Bench) -> None:
    listed = bench.rig.node.listed
    bench.rig.node.listed = {THREE: frozenset({"MIG-gone"})}
    await bench.look()
    assert await bench.look(after=5.0)
    bench.disagreement.reloaded()
    bench.rig.node.listed = listed
    assert not await bench.look()
    bench.rig.node.listed = {THREE: frozenset({"MIG-gone"})}
    await bench.look()
    assert await bench.look(after=5.0)
