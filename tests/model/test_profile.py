"""A card's profile table."""

from __future__ import annotations

from cdmo.model.profile import Engines, GpuModel
from tests.builders import card

H100 = card("h100")


def test_profiles_are_found_by_id_and_by_resource() -> None:
    by_id = H100.profile(9)
    assert by_id is not None
    assert by_id.name == "3g.40gb"
    assert H100.profile_for("nvidia.com/mig-3g.40gb") == by_id


def test_what_a_card_has_not_is_none() -> None:
    assert H100.profile(1023) is None
    assert H100.profile_for("nvidia.com/mig-3g.39gb") is None
    assert H100.profile_for("nvidia.com/gpu") is None


def test_the_whole_card_is_its_largest_profile() -> None:
    assert H100.compute_slices == 7
    assert (H100.engines.decoder, H100.engines.jpeg) == (7, 7)
    assert card("rtx_pro_6000").compute_slices == 4


def test_a_card_without_profiles_has_nothing_to_cut() -> None:
    plain = GpuModel("NVIDIA L4", 0, ())
    assert (plain.compute_slices, plain.engines) == (0, Engines())
