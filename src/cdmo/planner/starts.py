"""How a GPU starts a plan. Most GPUs of a cluster look like some others: what follows is worked out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from cdmo.model.gpu import DeviceState, Gpu, MigMode, Placement
from cdmo.planner.placement import CardTable, Layout
from cdmo.planner.shape import Shape, Shapes
from cdmo.planner.standing import Tables, gpu_problem, standing, table_for

# What a GPU starts a plan with: observed layout, layout asked of it so far, held layout, shape, memory slots held.
Start = tuple[Layout, Layout, Layout, Shape, int]


class Starts:
    """Works out how GPUs start a plan; equal GPUs share the answer."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._known: dict[tuple[object, ...], Start] = {}
        self._rows: dict[tuple[object, ...], tuple[CardTable, ...]] = {}

    def of(
        self,
        gpu: Gpu,
        table: CardTable | None,
        desired: tuple[Placement, ...] | None,
        missing: Counter[str],
        devices: Collection[str],
    ) -> Start | str:
        """The start, or why the GPU takes no part.

        `missing`, `devices`: what is `unseen` on its node, and the ids named in the statuses of its bound pods.
        """
        if table is None or not gpu.healthy or gpu.mig_mode is not MigMode.ENABLED:
            return gpu_problem((), gpu) if table is None else gpu_problem((table,) * (gpu.model + 1), gpu)
        idle = DeviceState.IDLE
        if devices:
            there = [(each.placement, each.state is idle and each.uuid not in devices) for each in gpu.slices]
        else:
            there = [(each.placement, each.state is idle) for each in gpu.slices]
        key = (table, tuple(there), desired, frozenset(missing) if missing else None)
        known = self._known.get(key)
        if known is None:
            problem = gpu_problem((table,) * (gpu.model + 1), gpu)
            if problem:
                return problem
            known = self._known[key] = self._work_out(table, there, desired, missing)
        return known

    def row_of(self, tables: Tables, gpus: Sequence[Gpu]) -> tuple[CardTable, ...]:
        """The cards of a node whose models are known, healthy or not, in an order of their own."""
        key = (tables, tuple([gpu.model for gpu in gpus]))
        row = self._rows.get(key)
        if row is None:
            known = (table_for(tables, gpu) for gpu in gpus)
            row = tuple(sorted((each for each in known if each is not None), key=lambda each: each.key))
            self._rows[key] = row
        return row

    def _work_out(
        self,
        table: CardTable,
        there: list[tuple[Placement, bool]],
        desired: tuple[Placement, ...] | None,
        missing: Counter[str],
    ) -> Start:
        observed = table.layout(placement for placement, _ in there)
        held = table.layout(placement for placement, idle in there if not idle)
        firm = held | {each for each in observed if missing[table.resource_at(each)]}
        base = observed if desired is None else table.layout(desired)
        layout = standing(table, observed, firm, base)
        spare = layout - held
        loose = frozenset(each for each in spare if not missing[table.resource_at(each)])
        shape = self._shapes.of(table, layout, spare, loose, layout - observed)
        return observed, base, held, shape, table.memory_slots - table.free_slots(held)
