"""Products by name: the known ones are found, a near miss is told what was meant."""

from __future__ import annotations

import pytest

from cdmo.errors import BadSettings
from cdmo.simulation.catalogue import PRODUCTS, model_of


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_known_product_has_a_model_of_that_name(product: str) -> None:
    assert model_of(product).product == product


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("NVIDIA H100 80GB HMB3", "NVIDIA H100 80GB HBM3"),
        ("a30", "NVIDIA A30"),
        ("nvidia h200", "NVIDIA H200"),
        ("A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"),
    ],
)
def test_an_unknown_product_is_answered_with_the_nearest_and_all_known_ones(typed: str, meant: str) -> None:
    with pytest.raises(BadSettings, match="no MIG table is known") as refused:
        model_of(typed)
    assert repr(meant) in refused.value.hint.partition("?")[0]
    assert all(each in refused.value.hint for each in PRODUCTS)


def test_nonsense_is_answered_with_the_known_products_alone() -> None:
    with pytest.raises(BadSettings) as refused:
        model_of("")
    assert refused.value.hint.startswith("products with a table: ")
