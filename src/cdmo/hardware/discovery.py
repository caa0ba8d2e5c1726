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


def discovery_rows(reading: DriverReading) -> list[tuple[str, ...]]:
    """A table's rows under `DISCOVERY_COLUMNS`: one per profile of each distinct GPU model."""
    models = {each.model.product: each.model for each in reading.gpus}
    return [
        (
            product,
            str(profile.id),
            profile.name,
            profile.resource,
            ",".join(map(str, profile.starts)),
            str(profile.size),
            str(profile.max_instances),
            f"{profile.memory_mib / 1024:.2f}",
        )
        for product, model in sorted(models.items())
        for profile in model.profiles
    ]


DISCOVERY_COLUMNS = ("PRODUCT", "ID", "PROFILE", "RESOURCE", "STARTS", "SLOTS", "MAX", "MEMORY GiB")


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
