"""Others that cut GPUs: told once each, and not where they do no harm."""

from __future__ import annotations

from cdmo.doctor import Finding, Source, Status, diagnose
from tests.doctor.faults import added, runs
from tests.doctor.recorded import Recorded, recorded


def said(cluster: Recorded, check: str = "other-managers") -> list[Finding]:
    return [each for each in diagnose(cluster.facts()) if each.check == check]


def test_a_manager_of_several_parts_is_told_once() -> None:
    cluster = recorded()
    runs("nos-mig-agent", "x/nos-mig-agent:1")(cluster)
    runs("nos-gpu-partitioner", "x/nos-gpu-partitioner:1")(cluster)
    added(Source.DEFINITIONS, "elasticquotas.nos.nebuly.com")(cluster)
    (found,) = said(cluster)
    assert found.object == "DaemonSet/elsewhere/nos-mig-agent"


def test_a_definition_of_the_same_group_that_is_no_managers_is_fine() -> None:
    cluster = recorded()
    added(Source.DEFINITIONS, "inferenceworkspaces.inference.redhat.com")(cluster)
    assert [each.status for each in said(cluster)] == [Status.OK]


def test_nvidias_dra_driver_without_dynamic_mig_is_fine() -> None:
    cluster = recorded()
    for gates in ("", "DynamicMIG=false", "MPSSupport=true"):
        runs("kubelet-plugin", "nvcr.io/nvidia/k8s-dra-driver-gpu:v26.4", FEATURE_GATES=gates)(cluster)
        assert [each.status for each in said(cluster)] == [Status.OK]


def test_device_classes_of_other_resources_are_fine() -> None:
    cluster = recorded()
    added(Source.DEVICE_CLASSES, "mig.nvidia.com")(cluster)
    added(Source.DEVICE_CLASSES, "nic", {"extendedResourceName": "example.com/nic"})(cluster)
    assert [each.status for each in said(cluster, "device-classes")] == [Status.OK]
