"""Kubernetes quantities ("500m", "40Gi", "1e3") as exact whole numbers.

Grammar: k8s.io/apimachinery/pkg/api/resource, `<signedNumber><suffix>`. The scheduler counts cpu in millicores
and everything else in whole units, always rounding up; so do we. No float is ever involved.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(r"([+-]?)(\d{1,40})?(?:\.(\d{0,40}))?(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?", re.ASCII)
_SCALE = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", start=1)},
    **{letter + "i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", start=1)},
}
_EXPONENT_LIMIT = 30  # the API server caps quantities at 2^63; anything far beyond is an attack or a mistake


def quantity(text: str) -> Fraction:
    """The exact value. Raises ValueError when it is not a quantity."""
    form = _FORM.fullmatch(text)
    if form is None or not (form[2] or form[3]):
        raise ValueError(f"{text[:64]!r} is not a quantity; expected something like 500m, 2 or 40Gi")
    sign, whole, fraction, suffix, exponent = form.groups()
    digits = (whole or "") + (fraction or "")
    value = Fraction(int(digits), 10 ** len(fraction or ""))
    if suffix:
        value *= _SCALE[suffix]
    if exponent:
        if abs(int(exponent)) > _EXPONENT_LIMIT:
            raise ValueError(f"{text[:64]!r} has an exponent beyond what Kubernetes can hold")
        value *= Fraction(10) ** int(exponent)
    return -value if sign == "-" else value


@lru_cache(maxsize=4096)  # a cluster writes the same few quantities over and over
def amount(resource: str, text: str) -> int:
    """A quantity of this resource in its own unit (millicores for cpu, else bytes or devices), rounded up."""
    value = quantity(text) * (1000 if resource == "cpu" else 1)
    return -(-value.numerator // value.denominator)
