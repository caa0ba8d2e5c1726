"""MigNodes in memory that refuse as the API server does, and an EventSink that remembers."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from cdmo.api.v1alpha1 import MigNode, MigNodeSpec, MigNodeStatus
from cdmo.errors import AlreadyExists, ClusterError, Conflict, NotFound
from cdmo.kube.port import Event
from cdmo.model.reasons import EventReason


class FakeMigNodes:
    """A MigNodeApi. Every write gets a new resourceVersion; the generation grows with the spec alone.

    `calls` notes each call, `before_write` runs before a spec's write is judged (somebody else may write then),
    `on_status` after a status was written, and `fails[call]` holds errors to raise, one a call.
    """

    def __init__(self, *nodes: MigNode) -> None:
        self._version = 0
        self.nodes: dict[str, MigNode] = {}
        self.calls: list[str] = []
        self.before_write: Callable[[str], None] = lambda _: None
        self.on_status: Callable[[MigNodeStatus], None] = lambda _: None
        self.statuses: list[MigNodeStatus] = []  # every one that an agent wrote
        self.fails: dict[str, list[ClusterError]] = {}
        for each in nodes:
            self.put(each)

    def put(self, node: MigNode) -> MigNode:
        """Store a whole object as a new one, with the uid and the generation of a new one."""
        metadata = replace(node.metadata, uid=f"uid-{self._version + 1}", generation=1)
        return self._store(replace(node, metadata=metadata))

    def set_status(self, name: str, status: MigNodeStatus) -> MigNode:
        """The agent's write."""
        return self._store(replace(self.nodes[name], status=status))

    def set_spec(self, name: str, spec: MigNodeSpec) -> MigNode:
        """An administrator's write of anything in the spec."""
        node = self.nodes[name]
        generation = node.metadata.generation + (spec != node.spec)
        return self._store(replace(node, spec=spec, metadata=replace(node.metadata, generation=generation)))

    async def get(self, name: str) -> MigNode:
        self._called("get", name)
        return self._existing(name)

    async def create(self, node: MigNode) -> MigNode:
        name = node.metadata.name
        self._called("create", name)
        if name in self.nodes:
            raise AlreadyExists(f'mignodes "{name}" already exists')
        return self.put(replace(node, status=MigNodeStatus()))  # a status comes through its subresource alone

    async def write_spec(self, name: str, spec: MigNodeSpec, resource_version: str) -> MigNode:
        self._called("write_spec", name)
        self.before_write(name)
        node = self._existing(name)
        if resource_version != node.metadata.resource_version:
            raise Conflict(f'mignodes "{name}": the object has been modified')
        return self.set_spec(name, replace(spec, mode=node.spec.mode))

    async def write_status(self, name: str, status: MigNodeStatus) -> MigNode:
        self._called("write_status", name)
        self._existing(name)
        self.statuses.append(status)
        stored = self.set_status(name, status)
        self.on_status(status)
        return stored

    def _called(self, call: str, name: str) -> None:
        self.calls.append(f"{call} {name}")
        if self.fails.get(call):
            raise self.fails[call].pop(0)

    def _existing(self, name: str) -> MigNode:
        if name not in self.nodes:
            raise NotFound(f'mignodes "{name}" not found')
        return self.nodes[name]

    def _store(self, node: MigNode) -> MigNode:
        self._version += 1
        stored = replace(node, metadata=replace(node.metadata, resource_version=str(self._version)))
        self.nodes[node.metadata.name] = stored
        return stored


class RememberedEvents:
    """An EventSink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, reason: EventReason) -> list[Event]:
        """Those with this reason, in order."""
        return [each for each in self.events if each.reason is reason]
