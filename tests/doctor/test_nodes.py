"""The GPU nodes, where a planted fault (test_checks.py) does not say it all."""

from __future__ import annotations

import pytest

from cdmo.doctor import Finding, Source, Status, diagnose
from cdmo.doctor.nodes import OLDEST_DRIVER
from cdmo.doctor.parts import version_in
from tests.doctor.faults import modes, product, runs
from tests.doctor.recorded import EXPORTER, Recorded, recorded


def said(cluster: Recorded, check: str) -> list[Finding]:
    return [each for each in diagnose(cluster.facts()) if each.check == check]


def test_a_cluster_without_any_label_is_told_how_to_begin() -> None:
    cluster = recorded()
    for name in ("gpu-1", "gpu-2"):
        cluster.get(Source.NODES, name)["metadata"]["labels"].clear()
    (found,) = said(cluster, "label")
    assert found.status is Status.WARNING
    assert found.fix == "`kubectl label nodes NODE cdmo.clear.ml/gpu-partitioning=mig`"


def test_a_gpu_without_mig_beside_one_with_it_stays_whole_and_is_fine() -> None:
    cluster = recorded()
    modes("Enabled", "Disabled")(cluster)
    assert [each.status for each in diagnose(cluster.facts()) if each.status is not Status.OK] == []


@pytest.mark.parametrize("words", [("Disabled", "Disabled"), ("EnablePending", "Enabled")])
def test_a_client_of_the_gpus_is_named_while_a_mode_has_to_change(words: tuple[str, str]) -> None:
    cluster = recorded()
    modes(*words)(cluster)
    (found,) = said(cluster, "gpu-clients")
    assert (found.status, found.object) == (Status.WARNING, f"DaemonSet/gpu-operator/{EXPORTER}")
    assert "it has to on gpu-1" in found.sentence


def test_another_program_that_sees_all_gpus_is_a_client_as_well() -> None:
    cluster = recorded()
    modes("Disabled", "Disabled")(cluster)
    runs("monitor", "registry.example/monitor:1", NVIDIA_VISIBLE_DEVICES="all")(cluster)
    runs("harmless", "registry.example/other:1", NVIDIA_VISIBLE_DEVICES="void")(cluster)
    assert [each.object for each in said(cluster, "gpu-clients")] == [
        f"DaemonSet/gpu-operator/{EXPORTER}",
        "DaemonSet/elsewhere/monitor",
    ]


@pytest.mark.parametrize(
    ("name", "driver", "fine"),
    [
        ("NVIDIA H100 80GB HBM3", "525.85.12", True),
        ("NVIDIA H100 80GB HBM3", "525.60.13", False),
        ("NVIDIA H200", "550.90.07", True),
        ("NVIDIA H20", "550.54.15", True),
        ("NVIDIA GH200 480GB", "535.10.1", True),  # nobody has told when MIG began there
        ("NVIDIA A100-SXM4-80GB", "450.80.02", True),
        ("NVIDIA A100-SXM4-80GB", "440.118.02", False),
        ("NVIDIA A30", "450.80.02", False),
        ("NVIDIA B300", "575.57.08", False),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "570.133.20", False),
        ("A card of next year", "100.1", True),
        ("NVIDIA H100", "unknown", True),
    ],
)
def test_a_driver_is_judged_by_the_card(name: str, driver: str, fine: bool) -> None:
    cluster = recorded()
    product(name, driver)(cluster)
    assert [each.status for each in said(cluster, "driver")] == [Status.OK if fine else Status.ERROR]


def test_the_table_of_drivers_can_be_read() -> None:
    assert [word for word, oldest in OLDEST_DRIVER if oldest and version_in(oldest) is None] == []
