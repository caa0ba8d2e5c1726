"""Generated workloads: the mixes on every card, rates and run times as defined, repeatable by seed."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from cdmo.errors import BadSettings
from cdmo.model.profile import GpuModel
from cdmo.simulation.cards import CARDS
from cdmo.simulation.workload import LOGNORMAL_SIGMA, MIXES, MixSettings, Workload, generate, kinds_of
from tests.builders import card


def generated(mix: str, *, load: float = 1.0, arrivals: int = 4000, loss: bool = True, seed: int = 7) -> Workload:
    """Of a cluster of 10 H100."""
    settings = MixSettings(mix, load, arrivals, loss)
    return generate(settings, {card("h100"): 80}, random.Random(seed).random)


def weights(mix: str, name: str) -> dict[str, float]:
    kinds = kinds_of(mix, {card(name): 8})
    return {each.resource.removeprefix("nvidia.com/mig-"): round(each.weight, 9) for each in kinds}


def test_a_mix_on_an_h100_has_the_six_profiles_with_the_weights_as_defined() -> None:
    assert weights("skew-small", "h100") == {
        "1g.10gb": 0.30,
        "1g.20gb": 0.25,
        "2g.20gb": 0.20,
        "3g.40gb": 0.10,
        "4g.40gb": 0.10,
        "7g.80gb": 0.05,
    }
    assert "1g.20gb" not in weights("classic", "h100")


def test_on_other_cards_a_class_becomes_the_smallest_profile_with_its_share_of_memory_and_compute() -> None:
    assert weights("skew-big", "a30") == {"1g.6gb": 0.15, "2g.12gb": 0.30, "4g.24gb": 0.55}
    assert weights("bimodal", "rtx_pro_6000") == {"1g.24gb": 0.45, "2g.48gb": 0.10, "4g.96gb": 0.45}


@pytest.mark.parametrize("model", CARDS, ids=lambda each: each.product)
def test_every_mix_has_a_meaning_on_every_card(model: GpuModel) -> None:
    for mix in MIXES:
        kinds = kinds_of(mix, {model: model.memory_slots})
        assert sum(each.weight for each in kinds) == pytest.approx(1.0)
        assert all(each.slots == model.profile_for(each.resource).size for each in kinds)  # type: ignore[union-attr]


def test_a_mixed_cluster_draws_the_model_in_proportion_to_its_slots() -> None:
    kinds = kinds_of("uniform", {card("h100"): 24, card("a30"): 8})
    assert sum(each.weight for each in kinds if each.resource.endswith(("6gb", "12gb", "24gb"))) == pytest.approx(
        0.25
    )


def test_the_offered_slots_are_the_load_times_the_capacity() -> None:
    load = generated("classic", load=0.8)
    sizes = {each.resource: each.slots for each in kinds_of("classic", {card("h100"): 80})}
    offered = sum(sizes[name] * count for job in load.jobs for name, count in job.demand)
    elapsed = load.jobs[-1].pod.created
    assert offered / elapsed == pytest.approx(0.8 * 80, rel=0.05)  # mean run time 1; 4,000 arrivals: sd below 2 %


def test_arrivals_are_poisson_and_run_times_exponential_with_mean_one_for_loss() -> None:
    load = generated("uniform")
    times = [0.0, *(each.pod.created for each in load.jobs)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    for values in (gaps, [each.duration for each in load.jobs]):
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((each - mean) ** 2 for each in values) / len(values))
        assert deviation == pytest.approx(mean, rel=0.1)  # as it is for an exponential distribution
    assert sum(each.duration for each in load.jobs) / len(load.jobs) == pytest.approx(1.0, rel=0.06)


def test_run_times_are_lognormal_with_mean_one_for_queueing() -> None:
    logarithms = [math.log(each.duration) for each in generated("uniform", loss=False).jobs]
    mean = sum(logarithms) / len(logarithms)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in logarithms) / len(logarithms))
    assert deviation == pytest.approx(LOGNORMAL_SIGMA, rel=0.05)
    assert mean + deviation**2 / 2 == pytest.approx(0.0, abs=0.15)  # the logarithm of the mean


def test_the_same_seed_makes_the_same_workload_and_another_seed_another_one() -> None:
    assert generated("bimodal", arrivals=50) == generated("bimodal", arrivals=50)
    assert generated("bimodal", arrivals=50) != generated("bimodal", arrivals=50, seed=8)


def test_weights_of_a_demand_are_shares_of_all_slices_asked_for() -> None:
    load = generated("uniform", arrivals=600)
    assert sum(load.demand_weights().values()) == pytest.approx(1.0)
    assert len(load.demand_weights()) == 6


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("even", 1.0, 10, True), "no mix 'even'"),
        (("uniform", 0.0, 10, True), "a load of 0 "),
        (("uniform", -1.0, 10, True), "a load of -1 "),
        (("uniform", math.nan, 10, True), "a load of nan "),
        (("uniform", 1001.0, 10, True), "a load of 1001 "),
        (("uniform", 1.0, 0, True), "0 arrivals"),
    ],
)
def test_settings_that_make_no_workload_are_refused(settings: tuple[str, float, int, bool], sentence: str) -> None:
    with pytest.raises(BadSettings, match=sentence) as refused:
        MixSettings(*settings)
    assert refused.value.hint
