"""A cluster of equal nodes, made up: whole GPUs with MIG on, nothing on them."""

from __future__ import annotations

from cdmo.errors import BadSettings
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import Gpu, MigMode
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.profile import GpuModel
from cdmo.model.snapshot import MigNodeView

MAX_NODES = 100_000
MAX_GPUS_PER_NODE = 64
MAX_GPUS = 1_000_000


def equal_nodes(model: GpuModel, nodes: int, gpus_per_node: int) -> tuple[MigNodeView, ...]:
    """Nodes `node-1` … with room for as many pods as they have slices. Raises BadSettings for absurd counts."""
    if not 1 <= nodes <= MAX_NODES:
        raise BadSettings(f"{nodes} nodes cannot be simulated", hint=f"give 1 to {MAX_NODES} nodes")
    if not 1 <= gpus_per_node <= MAX_GPUS_PER_NODE:
        raise BadSettings(
            f"{gpus_per_node} GPUs per node cannot be simulated", hint=f"give 1 to {MAX_GPUS_PER_NODE} GPUs per node"
        )
    if nodes * gpus_per_node > MAX_GPUS:
        raise BadSettings(
            f"{nodes * gpus_per_node} GPUs are too many", hint=f"nodes times GPUs per node may be {MAX_GPUS} at most"
        )
    digits = len(str(nodes))  # names of one length: the planner breaks ties by name
    return tuple(_node(f"node-{number:0{digits}d}", model, gpus_per_node) for number in range(1, nodes + 1))


def _node(name: str, model: GpuModel, gpus: int) -> MigNodeView:
    room = {"pods": gpus * model.memory_slots}
    return MigNodeView(
        node=NodeInfo(
            name=name,
            uid=f"uid-{name}",
            labels={PARTITIONING_LABEL: PARTITIONING_VALUE},
            allocatable=room,
            capacity=room,
        ),
        models=(model,),
        gpus=tuple(
            Gpu(
                pci_bus_id=f"00000000:{number:02X}:00.0",
                uuid=f"GPU-{name}-{number}",
                model=0,
                mig_mode=MigMode.ENABLED,
            )
            for number in range(1, gpus + 1)
        ),
    )
