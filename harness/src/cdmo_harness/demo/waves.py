"""The pods of the demo, in the order in which they come."""

from __future__ import annotations

from dataclasses import dataclass

CLEARML_NAMESPACE = "clearml"
PLAIN_NAMESPACE = "default"

# ClearML's glue names a task's pod so (K8sIntegration.DEFAULT_POD_NAME_PREFIX of clearml-agent 3.0).
_CLEARML_PREFIX = "clearml-id-"

# Seconds: long enough for all four pods of the first wave to be seen side by side.
_SHORT = 4.0


@dataclass(frozen=True, slots=True)
class Task:
    """One pod. With a queue it goes through ClearML and asks for what the queue gives, else for `resource`."""

    name: str
    resource: str
    queue: str | None = None
    run_seconds: float | None = None  # None: until the end of the demo

    @property
    def pod(self) -> str:
        """The pod's name."""
        return _CLEARML_PREFIX + self.name if self.queue else self.name

    @property
    def key(self) -> str:
        """The pod's "namespace/name"."""
        return f"{CLEARML_NAMESPACE if self.queue else PLAIN_NAMESPACE}/{self.pod}"


@dataclass(frozen=True, slots=True)
class Wave:
    """Tasks that come together."""

    title: str
    tasks: tuple[Task, ...]


# The four queues of ClearML's page. Together 1g, 2g and 4g fill one GPU, 7g is another.
FIRST = Wave(
    "first wave: a task in each of ClearML's four queues",
    (
        Task("embed", "nvidia.com/mig-1g.10gb", "slice-1", _SHORT),
        Task("rerank", "nvidia.com/mig-2g.20gb", "slice-2", _SHORT),
        Task("finetune", "nvidia.com/mig-4g.40gb", "slice-4"),
        Task("pretrain", "nvidia.com/mig-7g.80gb", "slice-7", _SHORT),
    ),
)

# Three whole GPUs of 80 GB: the idle 7g serves one, the two GPUs without a slice the others. After that the only GPU
# of this size with anything to spare is the one with the busy 4g.
WHOLE_GPUS = Wave(
    "second wave: three tasks for whole GPUs, one of which is cut already and idle",
    tuple(Task(f"pretrain-{number}", "nvidia.com/mig-7g.80gb", "slice-7") for number in (2, 3, 4)),
)

# So the 3g can only come where 1g and 2g are idle, beside the busy 4g.
RECUT = Wave(
    "a pod that needs 1g and 2g re-cut to 3g beside the busy 4g, and two for the A30",
    (
        Task("notebook", "nvidia.com/mig-3g.40gb"),
        Task("a30-train", "nvidia.com/mig-2g.12gb"),
        Task("a30-serve", "nvidia.com/mig-1g.6gb"),
    ),
)
