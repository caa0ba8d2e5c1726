"""What a load did and what it cost: the figures by which a run is judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cdmo_harness.gpu_node import GpuNode
from cdmo_harness.observer import Repartitioned

_NAMES = re.compile(r"MIG-[0-9a-f-]{36}|\b[0-9a-f]{12,64}\b|load-\d+")


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one run. Counts are of pods unless said otherwise."""

    pods: int
    succeeded: int
    forced: int  # deleted by force while they ran
    direct: int  # bound by their own spec.nodeName
    turned_away: int  # creations with spec.nodeName that the fence refused, each tried again
    failed: Mapping[str, int]  # pods that ended Failed, by reason and message
    refused: int  # by the kubelet's admission
    without_slice: int  # asked for one and were given none
    dead: int  # were given a slice that was gone
    destroys_in_use: int  # of slices with a process on them; the driver refuses them
    repartitions: int  # applied
    changes_failed: Mapping[str, int] = field(default_factory=dict)  # changes that were not applied, by message
    fenced: tuple[float, ...] = ()  # seconds, a change each

    @property
    def harmed(self) -> int:
        """Pods that came to harm, and destroys that would have harmed one."""
        # A pod on a slice that was gone ends Failed too: nobody is counted twice.
        return max(self.refused + self.dead, sum(self.failed.values())) + self.without_slice + self.destroys_in_use


def common_form(text: str) -> str:
    """A message without the names of one pod, container or slice, so that equal causes count together."""
    return _NAMES.sub("…", text)[:300]


def messages_of_failures(changes: Iterable[Repartitioned]) -> dict[str, int]:
    """Changes that were not applied, by result and message."""
    failed = (each.report for each in changes if each.report.result != "Applied")
    return dict(Counter(common_form(f"{each.result}: {each.message}") for each in failed))


@dataclass(frozen=True, slots=True)
class Harm:
    """What the nodes counted since they were started."""

    refused: int = 0
    without_slice: int = 0
    dead: int = 0
    destroys_in_use: int = 0

    def since(self, before: Harm) -> Harm:
        """What was added."""
        return Harm(
            self.refused - before.refused,
            self.without_slice - before.without_slice,
            self.dead - before.dead,
            self.destroys_in_use - before.destroys_in_use,
        )


def harm_on(nodes: Iterable[GpuNode]) -> Harm:
    """The sum over these nodes. Asks the API server, so it blocks for a moment."""
    counts = [(node.counters(), node.driver.counters().destroyed_in_use_attempts) for node in nodes]
    return Harm(
        refused=sum(sum(pods.admission_failures.values()) for pods, _ in counts),
        without_slice=sum(pods.admitted_without_device for pods, _ in counts),
        dead=sum(pods.started_on_dead_device for pods, _ in counts),
        destroys_in_use=sum(destroys for _, destroys in counts),
    )
