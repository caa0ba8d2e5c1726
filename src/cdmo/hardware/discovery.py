"""What `cdmo discover` shows: the cards of this host and what they can be cut into, as their driver reports it.

The answers of a card nobody has tried yet are a useful gift: this is their format in bug reports, and the one
that recorded answers of real cards are compared with.
"""

from __future__ import annotations

from typing import Any

from cdmo.hardware.port import DriverReading, GpuReading
from cdmo.model.profile import Profile


def discovery_as_json(reading: DriverReading) -> dict[str, Any]:
    """Driver and GPUs, each with its profiles ascending by id; only what JSON has: dict, list, str, int."""
    return {"driver": reading.driver_version, "gpus": [_gpu(each) for each in reading.gpus]}


def discovery_tables(reading: DriverReading) -> list[tuple[str, list[tuple[str, ...]]]]:
    """For each distinct GPU model a title and, under `DISCOVERY_COLUMNS`, a row a profile."""
    found: dict[str, list[GpuReading]] = {}
    for gpu in reading.gpus:
        found.setdefault(gpu.model.product, []).append(gpu)
    return [
        (
            f"{len(gpus)} x {product}, driver {reading.driver_version}, MIG {_modes(gpus)}",
            [_row(profile) for profile in gpus[0].model.profiles],
        )
        for product, gpus in sorted(found.items())
    ]


DISCOVERY_COLUMNS = ("ID", "PROFILE", "RESOURCE", "STARTS", "SLOTS", "MAX", "GiB")


def _modes(gpus: list[GpuReading]) -> str:
    return ", ".join(sorted({str(each.mig_mode) for each in gpus}))


def _row(profile: Profile) -> tuple[str, ...]:
    return (
        str(profile.id),
        profile.name,
        profile.resource,
        ",".join(map(str, profile.starts)),
        str(profile.size),
        str(profile.max_instances),
        f"{profile.memory_mib / 1024:.2f}",
    )


def _gpu(gpu: GpuReading) -> dict[str, Any]:
    return {
        "pciBusId": gpu.pci_bus_id,
        "uuid": gpu.uuid,
        "name": gpu.model.product,
        "memoryMiB": gpu.memory_mib,
        "migMode": str(gpu.mig_mode),
        "memorySlots": gpu.model.memory_slots,
        "profiles": [_profile(each) for each in gpu.model.profiles],
        "problem": gpu.problem,
    }


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "id": profile.id,
        "name": profile.name,
        "resource": profile.resource,
        "computeSlices": profile.compute_slices,
        "placements": [[start, profile.size] for start in profile.starts],
        "maxInstances": profile.max_instances,
        "memoryMiB": profile.memory_mib,
        "engines": {
            "decoder": profile.engines.decoder,
            "encoder": profile.engines.encoder,
            "jpeg": profile.engines.jpeg,
            "ofa": profile.engines.ofa,
        },
    }
