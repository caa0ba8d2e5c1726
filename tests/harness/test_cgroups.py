"""Control groups are found on machines of every kind, and what was made can be removed again by the record alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from cdmo_harness import cgroups

VERSION_1 = """\
24 30 0:22 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
25 30 0:23 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
"""
VERSION_2 = "24 30 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = VERSION_1 + "27 30 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mounts", "names"),
    [(VERSION_1, ["cpu", "systemd"]), (VERSION_2, ["cgroup"]), (HYBRID, ["cpu", "systemd", "unified"])],
    ids=["version-1", "version-2", "hybrid"],
)
def test_every_hierarchy_is_found(mounts: str, names: list[str]) -> None:
    assert [each.name for each in cgroups.hierarchies(mounts)] == names


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a hierarchy of version 1 with processors to hand on."""
    root = tmp_path / "cpuset"
    root.mkdir()
    (root / "cpuset.cpus").write_text("0-1\n")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"24 30 0:22 / {root} rw - cgroup cgroup rw,cpuset\n")
    monkeypatch.setattr(cgroups, "_MOUNTS", mounts)
    return root


def test_a_new_group_may_use_the_processors_of_its_parent(hierarchy: Path, tmp_path: Path) -> None:
    cgroups.make("cdmo-test", tmp_path)
    assert (hierarchy / "cdmo-test/cpuset.cpus").read_text() == "0-1\n"


def test_a_group_goes_with_all_below_it_and_its_neighbours_stay(hierarchy: Path, tmp_path: Path) -> None:
    cgroups.make("cdmo-test", tmp_path)
    (hierarchy / "cdmo-test/cpuset.cpus").unlink()  # in a real hierarchy the kernel does that
    (hierarchy / "cdmo-test/kubepods/pod1/container").mkdir(parents=True)
    (hierarchy / "others").mkdir()
    cgroups.remove_recorded(tmp_path)
    assert sorted(each.name for each in hierarchy.iterdir()) == ["cpuset.cpus", "others"]
    cgroups.remove_recorded(tmp_path)  # a second time there is nothing to do
