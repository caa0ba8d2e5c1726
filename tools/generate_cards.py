"""Write the card tables that `cdmo simulate` carries, from the ones the driver simulator is built of.

    python -m tools.generate_cards --write    write src/cdmo/simulation/cards.py
    python -m tools.generate_cards --check    write nothing; exit 1 if the committed module is another one

One table of facts: the wheel has no access to sim/nvml/cards, and two tables kept by hand would drift. Cards
without MIG are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.generated import REPOSITORY, write_or_check

SOURCES = REPOSITORY / "sim" / "nvml" / "cards"
TARGET = REPOSITORY / "src" / "cdmo" / "simulation" / "cards.py"

Json = dict[str, Any]

HEAD = '''"""MIG tables of every card that CDMO knows without asking a driver, by the product names NVML reports.

Generated from sim/nvml/cards by tools/generate_cards.py (`make crd`); do not edit.
"""

from __future__ import annotations

from cdmo.model.names import resource_of_profile
from cdmo.model.profile import Engines, GpuModel, Profile


def _profile(
    number: int,
    name: str,
    compute_slices: int,
    size: int,
    starts: tuple[int, ...],
    most: int,
    memory_mib: int,
    *engines: int,  # decoder, encoder, jpeg, ofa
) -> Profile:
    resource = resource_of_profile(name)
    return Profile(number, name, resource, compute_slices, size, starts, most, memory_mib, Engines(*engines))


# fmt: off
CARDS: tuple[GpuModel, ...] = (
'''


def module(cards: list[Json]) -> str:
    """The text of the module: a line a profile."""
    with_mig = sorted((card for card in cards if card["profiles"]), key=lambda card: str(card["product"]))
    return HEAD + "".join(map(_card, with_mig)) + ")\n"


def _card(card: Json) -> str:
    profiles = sorted(card["profiles"], key=lambda each: int(each["id"]))
    rows = "".join(f"        {_profile(each)},\n" for each in profiles)
    return f"    GpuModel({json.dumps(card['product'])}, {card['memorySlots']}, (\n{rows}    )),\n"


def _profile(profile: Json) -> str:
    numbers = [
        "computeSlices",
        "size",
        "starts",
        "maxInstances",
        "memoryMib",
        "decoders",
        "encoders",
        "jpegs",
        "ofas",
    ]
    values = [tuple(value) if isinstance(value, list) else value for value in (profile[each] for each in numbers)]
    return f"_profile({profile['id']}, {json.dumps(profile['name'])}, {', '.join(map(str, values))})"


def made() -> dict[Path, str]:
    """The module."""
    return {TARGET: module([json.loads(path.read_text()) for path in sorted(SOURCES.glob("*.json"))])}


if __name__ == "__main__":
    raise SystemExit(write_or_check("The card tables of `cdmo simulate`.", made, "sim/nvml/cards"))
