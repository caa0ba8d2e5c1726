"""A small GPU model for tests of the agent: the 8-slot family with four profiles."""

from __future__ import annotations

from cdmo.model.profile import Engines, GpuModel, Profile


def profile(identifier: int, name: str, slices: int, size: int, starts: tuple[int, ...], most: int) -> Profile:
    return Profile(
        id=identifier,
        name=name,
        resource=f"nvidia.com/mig-{name}",
        compute_slices=slices,
        size=size,
        starts=starts,
        max_instances=most,
        memory_mib=10_000 * size,
        engines=Engines(decoder=slices, jpeg=slices),
    )


H100 = GpuModel(
    product="NVIDIA H100 80GB HBM3",
    memory_slots=8,
    profiles=(
        profile(0, "7g.80gb", 7, 8, (0,), 1),
        profile(9, "3g.40gb", 3, 4, (0, 4), 2),
        profile(14, "2g.20gb", 2, 2, (0, 2, 4), 3),
        profile(19, "1g.10gb", 1, 1, (0, 1, 2, 3, 4, 5, 6), 7),
    ),
)
BUS = "00000000:10:00.0"
OTHER_BUS = "00000000:20:00.0"
