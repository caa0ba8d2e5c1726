"""Write the card tables that `cdmo simulate` carries, from the ones the driver simulator is built of.

    python tools/generate_cards.py            write src/cdmo/simulation/cards.py
    python tools/generate_cards.py --check    write nothing; exit 1 if the committed module is another one

One table of facts: the wheel has no access to sim/nvml/cards, and two tables kept by hand would drift. Cards
without MIG are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
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


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the module is stale")
    check = parser.parse_args().check
    fresh = module([json.loads(path.read_text()) for path in sorted(SOURCES.glob("*.json"))])
    if not check:
        TARGET.write_text(fresh)
        return 0
    if TARGET.exists() and TARGET.read_text() == fresh:
        return 0
    sys.stderr.write(f"error: {TARGET.relative_to(REPOSITORY)} is not what sim/nvml/cards makes\n")
    sys.stderr.write("hint: run `make crd` and commit what it writes\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
