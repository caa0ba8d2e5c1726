"""Card tables for the fakes: the very files the simulated driver is built from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdmo.model.names import resource_of_profile
from cdmo.model.profile import Engines, GpuModel, Profile

FOLDER = Path(__file__).parents[2] / "sim" / "nvml" / "cards"


@dataclass(frozen=True, slots=True)
class Card:
    """A card as its driver would report it."""

    key: str
    model: GpuModel
    memory_mib: int
    hopper_or_later: bool


def card(key: str) -> Card:
    """The card with this key, for example "H100-SXM5-80GB"."""
    table = json.loads((FOLDER / f"{key.lower()}.json").read_text())
    profiles = sorted((_profile(each) for each in table["profiles"]), key=lambda each: each.id)
    return Card(
        key=key,
        model=GpuModel(table["product"], table["memorySlots"], tuple(profiles)),
        memory_mib=table["memoryMib"],
        hopper_or_later=table["architecture"] not in ("ampere", "ada"),
    )


def card_keys() -> list[str]:
    """Every card there is a table for."""
    return sorted(json.loads(path.read_text())["key"] for path in FOLDER.glob("*.json"))


def _profile(table: dict[str, Any]) -> Profile:
    return Profile(
        id=table["id"],
        name=table["name"],
        resource=resource_of_profile(table["name"]),
        compute_slices=table["computeSlices"],
        size=table["size"],
        starts=tuple(table["starts"]),
        max_instances=table["maxInstances"],
        memory_mib=table["memoryMib"],
        engines=Engines(table["decoders"], table["encoders"], table["jpegs"], table["ofas"]),
    )
