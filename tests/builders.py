"""Builders for tests: whole values from a few words, with defaults that let a plan succeed.

    pod("train", asks="3g.40gb")                               a pending pod ml/train
    pod("old", asks={"1g.10gb": 2}, on="gpu-1")                a pod bound to a node
    node("gpu-1", gpus=[h100(slices={"1g.10gb@2": "ml/old", "3g.40gb@4": IDLE}), a100()])
    node("gpu-1", gpus=[h100(slices={"1g.10gb@6": IDLE}, desired=["3g.40gb@4"])])
    assigned("train", "gpu-1", "3g.40gb@4")                    what a former plan gave to ml/train, on GPU 0
    snapshot(nodes=[...], pending=[...], others=[host("web-1", zone="a", pods=[pod("web", on="web-1")])])

`PROFILE@SLOT` is a placement, BUS[n] the PCI bus id of a node's GPU n. Cards come from data/cards.json, which holds
the profile tables of four products as their drivers report them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, Unpack

from cdmo.model.cluster import HostPort, NodeInfo, PodInfo, SelectorTerm, Taint, Toleration
from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement, PodKey, Slice
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.profile import Engines, GpuModel, Profile
from cdmo.model.relations import PodTerm, SpreadRule
from cdmo.model.snapshot import Assignment, Host, MigNodeView, SliceChoice, Snapshot

IDLE = DeviceState.IDLE
IN_USE = DeviceState.IN_USE  # by a process that no pod is known for; name a pod to say who
BROKEN = DeviceState.BROKEN
UNHEALTHY = DeviceState.UNHEALTHY

NAMESPACE = "ml"
NOW = 1_790_000_000.0  # unix seconds
BUS = tuple(f"00000000:{number:02X}:00.0" for number in range(0x10, 0x100, 0x10))
CARDS = ("h100", "a100", "a30", "rtx_pro_6000")

GIB = 2**30
_ROOM = {"cpu": 64_000, "memory": 512 * GIB, "pods": 110}

Asks = str | Mapping[str, int]  # a profile, or profiles with counts
Slices = Mapping[str, DeviceState | str]  # by PROFILE@SLOT: a state, or the NAMESPACE/NAME of the pod that holds it


@lru_cache
def card(name: str) -> GpuModel:
    """The GPU model of one of CARDS."""
    tables = json.loads((Path(__file__).parent / "data" / "cards.json").read_text())
    table = tables[name]
    return GpuModel(
        product=table["product"],
        memory_slots=table["memory_slots"],
        profiles=tuple(
            Profile(**{**each, "starts": tuple(each["starts"]), "engines": Engines(**each["engines"])})
            for each in table["profiles"]
        ),
    )


def at(text: str, model: str | GpuModel = "h100") -> Placement:
    """The placement that `PROFILE@SLOT` names on a card: at("3g.40gb@4")."""
    table = card(model) if isinstance(model, str) else model
    name, _, start = text.partition("@")
    return Placement(next(each.id for each in table.profiles if each.name == name), int(start))


def written(placement: Placement, model: str | GpuModel = "h100") -> str:
    """The other way round: `PROFILE@SLOT` for a placement."""
    table = card(model) if isinstance(model, str) else model
    profile = table.profile(placement.profile_id)
    assert profile is not None
    return f"{profile.name}@{placement.start}"


def resource(profile: str) -> str:
    """The extended resource of a profile: resource("1g.10gb+me") is "nvidia.com/mig-1g.10gb.me"."""
    return "nvidia.com/mig-" + profile.replace("+", ".")


def key(name: str, uid: str | None = None) -> PodKey:
    """A pod's key from `NAME` or `NAMESPACE/NAME`; its uid is made of the name unless given."""
    namespace, _, short = name.rpartition("/")
    return PodKey(namespace or NAMESPACE, short, f"uid-{short}" if uid is None else uid)


def requests_of(asks: Asks, cpu: int = 1_000, memory: int = GIB, **other: int) -> dict[str, int]:
    """Requests of a pod: its slices, millicores of cpu, bytes of memory and whatever else."""
    slices = {asks: 1} if isinstance(asks, str) else asks
    others = {"cpu": cpu, "memory": memory, **other}
    return {**{resource(name): count for name, count in slices.items()}, **others}


class PodParts(TypedDict, total=False):
    """What a pod is to other pods, and what else it needs of a node: fields of PodInfo."""

    labels: tuple[tuple[str, str], ...]
    host_ports: tuple[HostPort, ...]
    spread: tuple[SpreadRule, ...]
    affinity: tuple[PodTerm, ...]
    anti_affinity: tuple[PodTerm, ...]


def pod(
    name: str,
    asks: Asks | None = None,
    *,
    on: str = "",
    uid: str | None = None,
    requests: Mapping[str, int] | None = None,
    created: float = NOW - 60,
    priority: int = 0,
    phase: str = "",
    scheduler: str = "default-scheduler",
    gated: bool = False,
    terminating: bool = False,
    selector: Mapping[str, str] | None = None,
    node_affinity: Sequence[SelectorTerm] | None = None,
    tolerations: Iterable[Toleration] = (),
    devices: Mapping[str, Sequence[str]] | None = None,
    **parts: Unpack[PodParts],
) -> PodInfo:
    """A pod that asks for slices; pending unless it is `on` a node. `requests` changes cpu and memory."""
    asked = requests_of(asks or {})
    return PodInfo(
        key=key(name, uid),
        created=created,
        priority=priority,
        phase=phase or ("Running" if on else "Pending"),
        node_name=on,
        scheduler_name=scheduler,
        gated=gated,
        unschedulable=not on,
        terminating=terminating,
        requests={**asked, **(requests or {})},
        node_selector=tuple((selector or {}).items()),
        node_affinity=None if node_affinity is None else tuple(node_affinity),
        tolerations=tuple(tolerations),
        devices=tuple((resource(profile), tuple(uuids)) for profile, uuids in (devices or {}).items()),
        **parts,
    )


@dataclass(frozen=True)
class Card:
    """A GPU before its node gave it a PCI bus id."""

    model: GpuModel
    slices: Slices
    desired: tuple[str, ...] | None
    mig_mode: MigMode
    healthy: bool
    problem: str

    def gpu(self, node_name: str, position: int, model: int) -> Gpu:
        """The GPU at this position of a node, with the node's model number."""
        return Gpu(
            pci_bus_id=BUS[position],
            uuid=f"GPU-{node_name}-{position}",
            model=model,
            mig_mode=self.mig_mode,
            slices=tuple(
                _slice(f"{node_name}-{position}", at(text, self.model), state) for text, state in self.slices.items()
            ),
            healthy=self.healthy and not self.problem,
            problem=self.problem,
        )


class CardParts(TypedDict, total=False):
    """What may be wrong with a card."""

    mig_mode: MigMode
    healthy: bool
    problem: str


def gpu_of(
    model: str | GpuModel,
    slices: Slices | None = None,
    desired: Iterable[str] | None = None,
    *,
    mig_mode: MigMode = MigMode.ENABLED,
    healthy: bool = True,
    problem: str = "",
) -> Card:
    """A GPU of any model: what is on it and, where a plan was published before, what was asked of it."""
    table = card(model) if isinstance(model, str) else model
    wanted = None if desired is None else tuple(desired)
    return Card(table, slices or {}, wanted, mig_mode, healthy, problem)


def h100(slices: Slices | None = None, desired: Iterable[str] | None = None, **parts: Unpack[CardParts]) -> Card:
    """An H100 80GB: 8 memory slots."""
    return gpu_of("h100", slices, desired, **parts)


def a100(slices: Slices | None = None, desired: Iterable[str] | None = None, **parts: Unpack[CardParts]) -> Card:
    """An A100 80GB: 8 memory slots, the profile names of the H100."""
    return gpu_of("a100", slices, desired, **parts)


def a30(slices: Slices | None = None, desired: Iterable[str] | None = None, **parts: Unpack[CardParts]) -> Card:
    """An A30: 4 memory slots."""
    return gpu_of("a30", slices, desired, **parts)


def rtx_pro_6000(
    slices: Slices | None = None, desired: Iterable[str] | None = None, **parts: Unpack[CardParts]
) -> Card:
    """An RTX PRO 6000 Blackwell: 12 memory slots, 4 compute slices."""
    return gpu_of("rtx_pro_6000", slices, desired, **parts)


def node(
    name: str,
    gpus: Sequence[Card] = (),
    *,
    labels: Mapping[str, str] | None = None,
    taints: Iterable[Taint] = (),
    cordoned: bool = False,
    ready: bool = True,
    allocatable: Mapping[str, int] | None = None,
    managed: bool = True,
    alive: bool = True,
    problem: str = "",
    out_of_reach: Mapping[str, int] | None = None,
) -> MigNodeView:
    """A managed node with room for 110 pods, 64 cpus and 512 GiB; `allocatable` changes or adds to that."""
    models = tuple(dict.fromkeys(each.model for each in gpus))
    room = {**_ROOM, **(allocatable or {})}
    return MigNodeView(
        node=NodeInfo(
            name=name,
            uid=f"uid-{name}",
            labels={PARTITIONING_LABEL: PARTITIONING_VALUE, **(labels or {})},
            taints=tuple(taints),
            unschedulable=cordoned,
            ready=ready,
            allocatable=room,
            capacity=room,
        ),
        models=models,
        gpus=tuple(each.gpu(name, position, models.index(each.model)) for position, each in enumerate(gpus)),
        desired={
            BUS[position]: tuple(sorted(at(text, each.model) for text in each.desired))
            for position, each in enumerate(gpus)
            if each.desired is not None
        },
        managed=managed,
        alive=alive,
        problem=problem,
        out_of_reach={resource(profile): count for profile, count in (out_of_reach or {}).items()},
    )


def host(name: str, pods: Iterable[PodInfo] = (), **labels: str) -> Host:
    """A Node that CDMO does not manage, with the pods on it."""
    return Host(NodeInfo(name=name, uid=f"uid-{name}", labels=labels, allocatable=_ROOM, capacity=_ROOM), tuple(pods))


def assigned(
    pod_name: str,
    node_name: str,
    *placements: str,
    gpu: int = 0,
    model: str = "h100",
    action: str = "create",
    uid: str | None = None,
) -> Assignment:
    """An assignment of slices on one GPU of a node."""
    slices = tuple(SliceChoice(BUS[gpu], at(text, model), action) for text in placements)
    return Assignment(key(pod_name, uid), node_name, slices)


def snapshot(
    nodes: Iterable[MigNodeView] = (),
    pending: Iterable[PodInfo] = (),
    bound: Iterable[PodInfo] = (),
    assignments: Iterable[Assignment] = (),
    avoid: Iterable[tuple[str, str]] = (),
    *,
    others: Iterable[Host] = (),
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
) -> Snapshot:
    """The whole question; `bound` pods go to the views of their nodes, `avoid` holds pod names with node names."""
    there = tuple(bound)
    return Snapshot(
        now=NOW,
        nodes=tuple(_with_pods(each, there) for each in nodes),
        pending=tuple(pending),
        others=tuple(others),
        namespaces=namespaces or {},
        assignments=tuple(assignments),
        avoid=frozenset((key(name), where) for name, where in avoid),
    )


def _with_pods(view: MigNodeView, bound: tuple[PodInfo, ...]) -> MigNodeView:
    pods = tuple(pod for pod in bound if pod.node_name == view.node.name)
    return replace(view, pods=view.pods + pods) if pods else view


def _slice(where: str, placement: Placement, state: DeviceState | str) -> Slice:
    uuid = f"MIG-{where}-{placement.profile_id}-{placement.start}"
    if isinstance(state, DeviceState):
        return Slice(placement, state, "" if state is BROKEN else uuid)
    return Slice(placement, IN_USE, uuid, key(state))
