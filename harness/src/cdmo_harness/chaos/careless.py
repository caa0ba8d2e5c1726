"""An agent that does not ask who uses a slice: shows that the judge of chaos would notice. For tests only.

Every change also destroys whatever else is on its GPUs. Neither CDMO's guard nor its look at processes is asked; the
driver still refuses what a process runs on, and counts it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdmo.agent.apply import Applier
from cdmo.agent.steps import Action, Step
from cdmo.hardware import nvml
from cdmo.hardware.port import DriverReading


def be_careless() -> None:
    """From now on this process' agent is."""
    carefully = Applier.apply

    async def apply(self: Applier, steps: tuple[Step, ...], driver: DriverReading, *, take_back: bool) -> None:
        await carefully(self, (*_destroys(driver, steps), *steps), driver, take_back=take_back)

    vars(nvml)["_processes"] = lambda _: ()
    setattr(Applier, "apply", apply)  # noqa: B010 a method of a class is not assigned to


def _destroys(driver: DriverReading, steps: Sequence[Step]) -> tuple[Step, ...]:
    """Of every instance on the GPUs that these steps are about, but those that they destroy themselves."""
    gpus = {each.gpu for each in steps}
    known = {(each.gpu, each.placement) for each in steps}
    return tuple(
        Step(Action.DESTROY, gpu.pci_bus_id, each.placement)
        for gpu in driver.gpus
        if gpu.pci_bus_id in gpus
        for each in gpu.instances
        if (gpu.pci_bus_id, each.placement) not in known
    )
