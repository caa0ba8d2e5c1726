"""Quantities, exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.kube.quantity import amount, quantity


@pytest.mark.parametrize(
    ("resource", "text", "count"),
    [
        ("cpu", "1", 1000),
        ("cpu", "500m", 500),
        ("cpu", "0.1", 100),
        ("cpu", "1.0005", 1001),
        ("cpu", "1n", 1),
        ("cpu", "100u", 1),
        ("cpu", "0", 0),
        ("memory", "40Gi", 40 * 1024**3),
        ("memory", "1.5Gi", 3 * 1024**3 // 2),
        ("memory", "128974848", 128974848),
        ("memory", "129e6", 129_000_000),
        ("memory", "129E", 129 * 10**18),
        ("memory", "1E3", 1000),
        ("memory", "123Mi", 123 * 1024**2),
        ("memory", "1m", 1),
        ("memory", "8Ei", 8 * 1024**6),
        ("memory", ".5k", 500),
        ("memory", "5.", 5),
        ("memory", "+5", 5),
        ("nvidia.com/mig-1g.10gb", "7", 7),
        ("nvidia.com/mig-1g.10gb", "2k", 2000),
        ("example.com/odd", "-1500m", -1),
    ],
)
def test_quantities_count_as_the_scheduler_counts_them(resource: str, text: str, count: int) -> None:
    assert amount(resource, text) == count


@pytest.mark.parametrize(
    "text", ["", "Gi", ".", "1KI", "1 Gi", "0x10", "1e", "1e999", "1GiB", "--1", "9" * 99, "٣", "1٣m"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|exponent"):
        quantity(text)


@given(st.integers(0, 10**15), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi", "m", "u", "n"]))
def test_rounding_up_never_loses_and_adds_less_than_one(number: int, suffix: str) -> None:
    exact = quantity(f"{number}{suffix}")
    assert 0 <= amount("memory", f"{number}{suffix}") - exact < Fraction(1)
