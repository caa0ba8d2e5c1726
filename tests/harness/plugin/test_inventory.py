"""Names and paths, by the real plugin's formulas."""

from __future__ import annotations

import pytest
from cdmo_harness.plugin.health import affected
from cdmo_harness.plugin.inventory import (
    EnumerationFailed,
    PluginDevice,
    capability_minors,
    profile_name,
    resource_of,
)
from cdmo_harness.plugin.server import socket_name

GIB = 2**30


@pytest.mark.parametrize(
    ("slices", "attribute", "mebibytes", "total", "name"),
    [
        (1, "", 9984, 81559 * 2**20, "1g.10gb"),
        (1, "+me", 9984, 81559 * 2**20, "1g.10gb+me"),
        (3, "", 40448, 81559 * 2**20, "3g.40gb"),
        (7, "", 81152, 81559 * 2**20, "7g.80gb"),
        (1, "", 5952, 24 * GIB, "1g.6gb"),
        (2, "", 11968, 24 * GIB, "2g.12gb"),
        (1, "-me", 24192, 95 * GIB, "1g.24gb-me"),
    ],
)
def test_a_profiles_name_is_made_from_slices_and_memory(
    slices: int, attribute: str, mebibytes: int, total: int, name: str
) -> None:
    assert profile_name(slices, attribute, mebibytes, total) == name


def test_a_plus_becomes_a_dot_in_the_resource_and_a_minus_stays() -> None:
    assert resource_of("1g.10gb+me") == "nvidia.com/mig-1g.10gb.me"
    assert resource_of("1g.24gb-me") == "nvidia.com/mig-1g.24gb-me"


def test_sockets_are_named_by_the_resource() -> None:
    assert socket_name("nvidia.com/mig-1g.10gb") == "nvidia-mig-1g.10gb.sock"
    assert socket_name("nvidia.com/gpu") == "nvidia-gpu.sock"


def test_mig_minors_are_read_by_capability_path() -> None:
    text = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n"
    assert capability_minors(text) == {"gpu0/mig/gi1/access": 12, "gpu0/mig/gi1/ci0/access": 13}


def test_minors_that_a_driver_loaded_anew_gave_out_otherwise_count_from_the_next_look_on() -> None:
    text = "gpu0/gi1/access {}\n"
    looks = [dict(capability_minors(text.format(minor))) for minor in (12, 12, 40)]
    assert [each["gpu0/mig/gi1/access"] for each in looks] == [12, 12, 40]


def test_an_unknown_line_in_mig_minors_stops_the_plugin() -> None:
    with pytest.raises(EnumerationFailed, match="unparsable line: nonsense"):
        capability_minors("config 1\nnonsense\n")


def test_an_event_fails_the_device_of_its_instance_or_the_whole_gpu() -> None:
    one, two = PluginDevice("MIG-1", "GPU-a", (), 1, 0), PluginDevice("MIG-2", "GPU-a", (), 2, 0)
    other = PluginDevice("GPU-b", "GPU-b", ())
    by_gpu = {"GPU-a": [one, two], "GPU-b": [other]}
    assert affected(by_gpu, "GPU-a", 2, 0) == [two]
    assert affected(by_gpu, "GPU-a", 0xFFFFFFFF, 0xFFFFFFFF) == [one, two]
    assert affected(by_gpu, "GPU-b", 1, 0) == [other]
    assert affected(by_gpu, "GPU-c", 1, 0) == []
