"""GPU models by the product name that NVML, and so `nvidia-smi -L`, gives them."""

from __future__ import annotations

import difflib

from cdmo.errors import BadSettings
from cdmo.model.profile import GpuModel
from cdmo.simulation.cards import CARDS

_BY_PRODUCT = {each.product: each for each in CARDS}
PRODUCTS = tuple(sorted(_BY_PRODUCT))


def model_of(product: str) -> GpuModel:
    """The model with this product name. Raises BadSettings, which names the nearest known ones."""
    found = _BY_PRODUCT.get(product)
    if found is not None:
        return found
    near = difflib.get_close_matches(product.casefold(), [each.casefold() for each in PRODUCTS], n=3, cutoff=0.5)
    likely = [each for each in PRODUCTS if each.casefold() in near or product.casefold() in each.casefold()]
    known = ", ".join(PRODUCTS)
    meant = f"did you mean {' or '.join(map(repr, likely[:3]))}? " if likely and product else ""
    raise BadSettings(
        f"no MIG table is known for the product {product!r}", hint=f"{meant}products with a table: {known}"
    )
