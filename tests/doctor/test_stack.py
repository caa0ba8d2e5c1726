"""The gpu-operator's parts, where a planted fault (test_checks.py) does not say it all."""

from __future__ import annotations

from cdmo.doctor import Finding, Source, Status, diagnose
from tests.doctor.recorded import PLUGIN, TOOLKIT, Recorded, recorded, workload
from tests.gpu_operator import guide


def wrong(cluster: Recorded) -> list[Finding]:
    return [each for each in diagnose(cluster.facts()) if each.status is not Status.OK]


def test_the_charts_defaults_are_found_wanting() -> None:
    found = {(each.check, each.status) for each in wrong(recorded(values="operator: {}"))}
    assert found == {("mig-manager", Status.ERROR), ("mig-strategy", Status.ERROR)}


def test_the_guides_second_file_is_not_for_nodes_that_are_cut() -> None:
    found = {each.check for each in wrong(recorded("25.3.4", values=guide.OFF))}
    assert found == {"mig-manager", "mig-strategy", "plugin-version"}


def test_a_fix_of_the_cluster_policy_is_a_command_to_copy() -> None:
    (found,) = [each for each in wrong(recorded(values="operator: {}")) if each.check == "mig-strategy"]
    assert found.fix == (
        '`kubectl patch clusterpolicy cluster-policy --type merge -p \'{"spec":{"mig":{"strategy":"mixed"}}}\'`'
    )


def without_operator() -> Recorded:
    """The device plugin by its own chart; the toolkit is the host's."""
    cluster = recorded()
    for name in (PLUGIN, TOOLKIT, "gpu-feature-discovery", "nvidia-dcgm-exporter"):
        cluster.objects[Source.DAEMON_SETS].pop(name)
    cluster.objects.pop(Source.CLUSTER_POLICIES)
    env = {"MIG_STRATEGY": "mixed", "DEVICE_LIST_STRATEGY": "volume-mounts", "PASS_DEVICE_SPECS": "true"}
    image = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
    cluster.put(Source.DAEMON_SETS, workload("nvdp-nvidia-device-plugin", "nvidia", image, env))
    return cluster


def test_the_device_plugin_alone_will_do() -> None:
    assert wrong(without_operator()) == []


def test_the_fix_for_a_plugin_alone_is_in_its_own_chart() -> None:
    cluster = without_operator()
    cluster.env("nvdp-nvidia-device-plugin", "DEVICE_ID_STRATEGY", "index")
    (found,) = wrong(cluster)
    assert found.fix == "set DEVICE_ID_STRATEGY to uuid in the DaemonSet's chart"


def test_a_plugin_without_a_version_is_not_judged_by_it() -> None:
    cluster = recorded()
    cluster.image(PLUGIN, "registry.example/k8s-device-plugin@sha256:0123")
    assert wrong(cluster) == []
