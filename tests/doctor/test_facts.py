"""What is read off a fact."""

from __future__ import annotations

import pytest

from cdmo.doctor.facts import Container, Workload


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("nvcr.io/nvidia/k8s-device-plugin:v0.20.0", "k8s-device-plugin", "v0.20.0"),
        ("registry.example:5000/k8s-device-plugin", "k8s-device-plugin", ""),
        ("cdmo:dev@sha256:0123", "cdmo", "dev"),
        ("x/cdmo@sha256:0123", "cdmo", ""),
        ("", "", ""),
    ],
)
def test_an_image_is_taken_apart(image: str, name: str, tag: str) -> None:
    container = Container("c", image)
    assert (container.image_name, container.tag) == (name, tag)


def test_a_variable_is_that_of_the_first_container_that_has_it() -> None:
    workload = Workload("DaemonSet", "n", "d", {}, (Container("a", "", {}), Container("b", "", {"X": "1"})))
    assert (workload.env("X"), workload.env("Y")) == ("1", "")
    assert str(workload) == "DaemonSet/n/d"
