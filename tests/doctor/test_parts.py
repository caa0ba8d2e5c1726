"""What several checks look for."""

from __future__ import annotations

import pytest

from cdmo.doctor.facts import ClusterFacts, Container, Workload
from cdmo.doctor.parts import of_cdmo, plugins, true, version_in


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v0.19.3-ubi9", (0, 19, 3)),
        ("v1.34.2+k3s1", (1, 34, 2)),
        ("580.95.05", (580, 95, 5)),
        ("575.64", (575, 64)),
        ("latest", None),
        ("7", None),
        ("", None),
    ],
)
def test_a_version_is_the_numbers_a_text_begins_with(text: str, version: tuple[int, ...] | None) -> None:
    assert version_in(text) == version


def daemon_set(name: str, image: str) -> Workload:
    return Workload("DaemonSet", "n", name, {}, (Container("c", image),))


@pytest.mark.parametrize(
    ("workload", "is_one"),
    [
        (daemon_set("nvidia-device-plugin-daemonset", "mirror/renamed:v1"), True),
        (daemon_set("nvdp-nvidia-device-plugin", "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"), True),
        (daemon_set("gpu-feature-discovery", "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"), False),
        (daemon_set("nvidia-device-plugin-mps-control-daemon", "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"), False),
        (daemon_set("sriov-device-plugin", "other/sriov:v3"), False),
    ],
)
def test_a_device_plugin_is_told_from_what_shares_its_image(workload: Workload, is_one: bool) -> None:
    assert plugins(ClusterFacts(0.0, daemon_sets=(workload,))) == ([workload] if is_one else [])


def test_cdmos_parts_are_known_by_their_labels_whatever_they_are_called() -> None:
    labels = {"app.kubernetes.io/name": "cdmo", "app.kubernetes.io/component": "agent"}
    agent = Workload("DaemonSet", "n", "renamed", labels)
    assert of_cdmo((agent, daemon_set("cdmo-agent", "")), "agent") == [agent]


def test_a_variable_is_on_as_go_reads_it() -> None:
    assert [each for each in ("true", "True", "1", "t", "yes", "on", "false", "") if true(each)] == [
        "true",
        "True",
        "1",
        "t",
    ]
