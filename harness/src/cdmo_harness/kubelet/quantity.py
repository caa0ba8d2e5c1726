"""Kubernetes quantities, as far as a node's resources need them."""

from __future__ import annotations

from decimal import Decimal
from math import ceil

_SUFFIXES = {
    "Ki": Decimal(1 << 10),
    "Mi": Decimal(1 << 20),
    "Gi": Decimal(1 << 30),
    "Ti": Decimal(1 << 40),
    "Pi": Decimal(1 << 50),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(1000),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
}


def number(text: str | int | float) -> Decimal:
    """The exact value of a quantity such as `500m`, `512Gi` or `2e3`; raises ValueError for anything else."""
    written = str(text).strip()
    for suffix, factor in _SUFFIXES.items():
        if written.endswith(suffix):
            return _decimal(written.removesuffix(suffix)) * factor
    return _decimal(written)


def whole(text: str | int | float) -> int:
    """The value rounded up to a whole number (bytes, devices, pods)."""
    return ceil(number(text))


def milli(text: str | int | float) -> int:
    """The value in thousandths, rounded up (CPU is counted so)."""
    return ceil(number(text) * 1000)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is not a quantity") from error
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a quantity")
    return value
