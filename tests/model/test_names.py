"""Names of extended resources."""

from __future__ import annotations

import pytest

from cdmo.model.names import is_mig_resource, resource_of_profile


@pytest.mark.parametrize(
    ("profile", "resource"),
    [
        ("3g.40gb", "nvidia.com/mig-3g.40gb"),
        ("1g.10gb+me", "nvidia.com/mig-1g.10gb.me"),
        ("1g.24gb-me", "nvidia.com/mig-1g.24gb-me"),
        ("1g.24gb+me.all", "nvidia.com/mig-1g.24gb.me.all"),
    ],
)
def test_a_profile_is_advertised_as_the_device_plugin_does(profile: str, resource: str) -> None:
    assert resource_of_profile(profile) == resource
    assert is_mig_resource(resource)


@pytest.mark.parametrize("name", ["nvidia.com/gpu", "cpu", "amd.com/mig-1g", "nvidia.com/gpu.shared", ""])
def test_other_resources_are_not_migs(name: str) -> None:
    assert not is_mig_resource(name)
