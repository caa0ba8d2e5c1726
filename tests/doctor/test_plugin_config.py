"""The device plugin's configuration file: what is said of a Node, and where nothing is."""

from __future__ import annotations

from cdmo.doctor import Finding, Status, diagnose
from tests.doctor.faults import plugin_file
from tests.doctor.recorded import Recorded, recorded


def said(cluster: Recorded) -> list[Finding]:
    return [each for each in diagnose(cluster.facts()) if each.check == "plugin-config"]


def planted(text: str, *, default: str = "", label_value: str = "") -> list[Finding]:
    cluster = recorded()
    plugin_file(text, default=default, label_value=label_value)(cluster)
    return said(cluster)


def test_a_file_that_is_mixed_is_fine_by_label_and_by_default() -> None:
    good = "flags: {migStrategy: mixed}"
    assert [each.status for each in planted(good, default="odd")] == [Status.OK]
    assert [each.status for each in planted(good, label_value="odd")] == [Status.OK]


def test_the_label_that_has_to_go_is_named_and_a_better_value_for_it() -> None:
    (found,) = planted("flags: {migStrategy: none}", default="mig", label_value="odd")
    assert found.object == "Node/gpu-1"
    assert "nvidia.com/device-plugin.config=odd whose migStrategy is none" in found.sentence
    assert found.fix == "`kubectl label --overwrite nodes gpu-1 nvidia.com/device-plugin.config=mig`"


def test_nodes_that_are_not_cdmos_may_choose_what_they_like() -> None:
    cluster = recorded()
    plugin_file("flags: {migStrategy: none}", default="odd", label_value="mig")(cluster)
    assert [each.status for each in said(cluster)] == [Status.OK]


def test_whole_gpus_may_be_shared_by_turns() -> None:
    text = "flags: {migStrategy: mixed}\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}"
    assert [each.status for each in planted(text, default="odd")] == [Status.OK]
