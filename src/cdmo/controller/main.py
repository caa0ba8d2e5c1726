"""The controller's wiring: every task of the process is named here."""

from __future__ import annotations

import gc
import random
import socket
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdmo.api.v1alpha1 import MigNode
from cdmo.controller.fences import FenceSettings, StaleFences
from cdmo.controller.loop import ControllerLoop, RoundSettings
from cdmo.controller.metrics import ControllerMetrics, asked
from cdmo.controller.promises import Patience, Promises
from cdmo.controller.publish import Publisher
from cdmo.controller.state import ClusterState, Heartbeats, Mirrors, calls_for_a_round, only_beat
from cdmo.controller.trigger import Trigger
from cdmo.kube.client import KubeClient
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.kube.reflector import Reflector
from cdmo.model.cluster import PodInfo
from cdmo.model.names import LEASE_NAME
from cdmo.model.policy import AGENT_SILENT_AFTER, Policy
from cdmo.planner import Planner
from cdmo.runtime.clock import Clock
from cdmo.runtime.pulse import Pulse
from cdmo.runtime.run import run_until_signalled
from cdmo.serving.asked import Watch, common, register
from cdmo.serving.health import Health, watched
from cdmo.serving.settings import LOOPBACK, ServingSettings
from cdmo.serving.start import server_of


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Everything the controller can be told. Seconds."""

    connect: ConnectSettings
    lease_namespace: str  # where the Lease lies: CDMO's own namespace
    policy: Policy = field(default_factory=Policy)
    serving: ServingSettings = LOOPBACK
    quiet_seconds: float = 0.05  # least time between two rounds: a burst of pods is planned together
    agent_silent_after: float = AGENT_SILENT_AFTER
    rounds: RoundSettings = field(default_factory=RoundSettings)
    patience: Patience = field(default_factory=Patience)
    fences: FenceSettings = field(default_factory=FenceSettings)
    stuck_after: float = 180.0  # without any progress: three times the longest round


async def run_controller(settings: ControllerSettings, environment: Mapping[str, str], clock: Clock) -> None:
    """Run until signalled. Raises CdmoError when it cannot even begin."""
    async with connect(settings.connect, environment) as connection:
        await connection.begin()
        controller = _Controller(settings, KubeClient(connection, clock, random.random), clock)
        await controller.run()


class _Controller:
    """The parts of the process, made in the order in which they need each other."""

    def __init__(self, settings: ControllerSettings, client: KubeClient, clock: Clock) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._trigger = Trigger(clock, settings.quiet_seconds)
        self._heartbeats = Heartbeats(clock, settings.agent_silent_after)
        pods, nodes = client.pods(self._pod_changed), client.nodes(self._changed)
        mignodes = client.mig_node_mirror(self._mignode_changed)
        claims, volumes = client.claims(self._changed), client.volumes(self._changed)
        classes, namespaces = client.storage_classes(self._changed), client.namespaces(self._changed)
        self._mirrors = Mirrors(
            pods.mirror(),
            nodes.mirror(),
            mignodes.mirror(),
            claims.mirror(),
            volumes.mirror(),
            classes.mirror(),
            namespaces.mirror(),
        )
        self._reflectors: Mapping[str, Reflector[Any]] = {
            "pods": pods,
            "nodes": nodes,
            "mignodes": mignodes,
            "claims": claims,
            "volumes": volumes,
            "storage classes": classes,
            "namespaces": namespaces,
        }
        for each in self._reflectors.values():
            each.when_synced(self._trigger.pull)  # a round in which one was not was none
        identity = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._elector = client.elector(settings.lease_namespace, LEASE_NAME, identity)
        self._recorder = client.recorder("cdmo-controller", identity)
        self._metrics = ControllerMetrics()
        self._pulse = Pulse(clock, settings.stuck_after)
        self._state = ClusterState(self._mirrors, self._heartbeats, settings.policy)
        self._promises = Promises(settings.patience)
        self._planning = False
        self._loop = self._new_loop()

    async def run(self) -> None:
        """Serve, take part in the election and plan until signalled."""
        register(
            self._metrics.registry,
            (
                *common(self._watches(), lambda: self._recorder.queued, lambda: self._recorder.dropped),
                *asked(
                    leads=self._elector.is_leader,
                    pending=lambda: self._state.waiting,
                    promised=lambda: len(self._promises),
                ),
            ),
        )
        server = server_of(
            self._settings.serving,
            self._health(),
            self._metrics.registry,
            self._client.access_review(),
            "cdmo-controller",
            self._clock,
        )
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            **{f"watch {kind}": each.run for kind, each in self._reflectors.items()},
            "lease": self._elector.run,
            "events": self._recorder.run,
            "serving": server.run,
            "first round of a term": self._begin_terms,
            "plan": self._plan,
        }
        await run_until_signalled(tasks, finish=_finish, finish_limit=1.0)

    async def _plan(self) -> None:
        for each in self._reflectors.values():
            await each.wait_synced()
        gc.freeze()  # the cluster as it is now mostly stays: a collection need not look through it every time
        self._planning = True
        await self._loop.run()

    async def _begin_terms(self) -> None:
        """A round as soon as this process leads."""
        while True:
            await self._elector.wait_leader()
            self._trigger.pull()
            while self._elector.is_leader():
                await self._clock.sleep(1.0)

    def _changed(self, *_: object) -> None:
        self._trigger.pull()

    def _pod_changed(self, _: str, before: PodInfo | None, now: PodInfo | None) -> None:
        if calls_for_a_round(before, now, self._settings.policy):
            self._trigger.pull()

    def _mignode_changed(self, name: str, before: MigNode | None, now: MigNode | None) -> None:
        # Thousands of agents beat; a beat is news only from one that was silent.
        if before is None or now is None or not only_beat(before, now) or not self._heartbeats.alive(before):
            self._trigger.pull()
        if now is None:
            self._heartbeats.forget(name)

    def _watches(self) -> tuple[Watch, ...]:
        return tuple(_watch(kind, each) for kind, each in self._reflectors.items())

    def _health(self) -> Health:
        return Health(
            live={"rounds": lambda: self._pulse.stuck() if self._planning else ""},
            ready=dict(
                [
                    *(watched(each.kind, each.synced) for each in self._watches()),
                    ("lease", lambda: self._elector.trouble),
                ]
            ),
        )

    def _new_loop(self) -> ControllerLoop:
        settings = self._settings
        return ControllerLoop(
            self._mirrors,
            trigger=self._trigger,
            state=self._state,
            planner=Planner(),
            promises=self._promises,
            publisher=Publisher(self._client.mig_nodes()),
            fences=StaleFences(
                self._mirrors, self._heartbeats, self._client.fence(), self._recorder, settings.fences
            ),
            sink=self._recorder,
            policy=settings.policy,
            is_leader=self._elector.is_leader,
            metrics=self._metrics,
            pulse=self._pulse,
            clock=self._clock,
            settings=settings.rounds,
        )


def _watch(kind: str, reflector: Reflector[Any]) -> Watch:
    return Watch(kind, lambda: reflector.synced, lambda: len(reflector.items))


async def _finish() -> None:
    """Nothing to carry to an end: a round that was cut off is planned anew by the next leader."""
