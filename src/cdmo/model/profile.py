"""What a GPU model can be cut into, as its driver reports it.

Profiles are keyed by NVML's numeric profile id: drivers rename them (3g.39gb, 3g.40gb), ids stay.
"""

from __future__ import annotations

import msgspec


class Engines(msgspec.Struct, frozen=True, gc=False):
    """Media engines of an instance, or of a whole GPU."""

    decoder: int = 0
    encoder: int = 0
    jpeg: int = 0
    ofa: int = 0


class Profile(msgspec.Struct, frozen=True, gc=False):
    """One GPU instance profile of a GPU model."""

    id: int
    name: str  # without the "MIG " that NVML puts before it: "3g.40gb"
    resource: str  # the extended resource the device plugin advertises: "nvidia.com/mig-3g.40gb"
    compute_slices: int
    size: int  # memory slots
    starts: tuple[int, ...]  # legal first slots, ascending
    max_instances: int
    memory_mib: int
    engines: Engines = Engines()


class GpuModel(msgspec.Struct, frozen=True):
    """A GPU product with its profile table: everything the planner must know of the card."""

    product: str
    memory_slots: int  # 8 on A100/H100/H200/B200, 4 on A30, 12 on RTX PRO 6000
    profiles: tuple[Profile, ...]  # ascending by id

    def profile(self, profile_id: int) -> Profile | None:
        """The profile with this id, or None."""
        return next((each for each in self.profiles if each.id == profile_id), None)

    def profile_for(self, resource: str) -> Profile | None:
        """The profile the device plugin advertises under this extended resource, or None."""
        return next((each for each in self.profiles if each.resource == resource), None)

    @property
    def compute_slices(self) -> int:
        """Compute slices of the whole card: those of its largest profile."""
        return max((each.compute_slices for each in self.profiles), default=0)

    @property
    def engines(self) -> Engines:
        """Media engines of the whole card: the most that any one profile has of each."""
        return Engines(
            decoder=max((each.engines.decoder for each in self.profiles), default=0),
            encoder=max((each.engines.encoder for each in self.profiles), default=0),
            jpeg=max((each.engines.jpeg for each in self.profiles), default=0),
            ofa=max((each.engines.ofa for each in self.profiles), default=0),
        )
