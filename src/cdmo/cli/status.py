"""`cdmo status`: every managed GPU and what is on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import msgspec

from cdmo.api.v1alpha1 import MigNode, ObservedGpu
from cdmo.cli._options import Kubeconfig, OutputOption
from cdmo.cli._output import Output, print_json, print_table
from cdmo.planner.placement import MOST_SLOTS

COLUMNS = ("NODE", "GPU", "PRODUCT", "MIG", "SLOTS", "SLICES (pod)")


def status(kubeconfig: Kubeconfig = None, output: OutputOption = Output.TABLE) -> None:
    """Show the GPUs of every managed node, their slices and who holds them."""
    nodes = asyncio.run(_read(kubeconfig))
    if output is Output.JSON:
        print_json(msgspec.to_builtins(nodes))
    else:
        print_table(COLUMNS, rows(nodes))


def rows(nodes: list[MigNode]) -> Iterator[tuple[str, ...]]:
    """A row a GPU. SLOTS draws the memory slots: # in use, w in use and withheld from others, o idle, . free,
    x unhealthy, used or not."""
    for node in nodes:
        for gpu in node.status.gpus:
            model = node.status.models[gpu.model] if gpu.model < len(node.status.models) else None
            names = {each.id: each.name for each in model.profiles} if model else {}
            slices = [f"! {gpu.problem}"] if gpu.problem else []
            slices += [
                names.get(each.profile_id, str(each.profile_id))
                + (f" ({each.pod.namespace}/{each.pod.name})" if each.pod else "")
                + (f" ! {each.problem}" if each.problem else "")
                for each in gpu.devices
            ]
            product = model.product.removeprefix("NVIDIA ") if model else "unknown"
            bus = gpu.pci_bus_id.removeprefix("00000000:")  # as lspci writes it: a row has to fit 80 columns
            yield node.metadata.name, bus, product, gpu.mig_mode, slots(node, gpu), "\n".join(slices)


def slots(node: MigNode, gpu: ObservedGpu) -> str:
    """The memory slots of a GPU, a letter each."""
    model = node.status.models[gpu.model] if gpu.model < len(node.status.models) else None
    if model is None:
        return ""
    drawn = ["."] * min(model.memory_slots, MOST_SLOTS)  # an agent may say anything
    sizes = {each.id: each.size for each in model.profiles}
    asked = next((each for each in node.spec.gpus if each.pci_bus_id == gpu.pci_bus_id), None)
    withheld = {(each.profile_id, each.start) for each in asked.withheld} if asked else set()
    for device in gpu.devices:
        in_use = "w" if (device.profile_id, device.start) in withheld else "#"
        for slot in range(device.start, min(device.start + sizes.get(device.profile_id, 0), len(drawn))):
            drawn[slot] = "x" if gpu.problem or device.problem else in_use if device.state == "InUse" else "o"
    return "".join(drawn)


async def _read(kubeconfig: Kubeconfig) -> list[MigNode]:
    from cdmo.kube.connect import ConnectSettings, connect
    from cdmo.kube.mignode_api import KubeMigNodes

    async with connect(ConnectSettings(kubeconfig), os.environ) as connection:
        return await KubeMigNodes(connection).list()
