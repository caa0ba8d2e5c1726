"""The controller's wiring: every task of the process is named here."""

from __future__ import annotations

import gc
import random
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from cdmo.api.v1alpha1 import MigNode
from cdmo.controller.fences import FenceSettings, StaleFences
from cdmo.controller.loop import ControllerLoop, RoundSettings
from cdmo.controller.promises import Patience, Promises
from cdmo.controller.publish import Publisher
from cdmo.controller.state import ClusterState, Heartbeats, Mirrors, only_beat
from cdmo.controller.trigger import Trigger
from cdmo.kube.client import KubeClient
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.model.names import LEASE_NAME
from cdmo.model.policy import Policy
from cdmo.planner import Planner
from cdmo.runtime.clock import Clock
from cdmo.runtime.run import run_until_signalled


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Everything the controller can be told. Seconds."""

    connect: ConnectSettings
    lease_namespace: str  # where the Lease lies: CDMO's own namespace
    policy: Policy = field(default_factory=Policy)
    quiet_seconds: float = 0.05  # least time between two rounds: a burst of pods is planned together
    agent_silent_after: float = 45.0  # an agent beats every 10 s
    rounds: RoundSettings = field(default_factory=RoundSettings)
    patience: Patience = field(default_factory=Patience)
    fences: FenceSettings = field(default_factory=FenceSettings)


async def run_controller(settings: ControllerSettings, environment: Mapping[str, str], clock: Clock) -> None:
    """Run until signalled. Raises CdmoError when it cannot even begin."""
    async with connect(settings.connect, environment) as connection:
        await connection.check()
        client = KubeClient(connection, clock, random.random)
        trigger = Trigger(clock, settings.quiet_seconds)

        def changed(*_: object) -> None:
            trigger.pull()

        def mignode_changed(_: str, before: MigNode | None, now: MigNode | None) -> None:
            # Thousands of agents beat; a beat is news only from one that was silent.
            if before is None or now is None or not only_beat(before, now) or not heartbeats.alive(before):
                trigger.pull()

        pods, nodes, mignodes = client.pods(changed), client.nodes(changed), client.mig_node_mirror(mignode_changed)
        claims, volumes = client.claims(changed), client.volumes(changed)
        classes, namespaces = client.storage_classes(changed), client.namespaces(changed)
        mirrors = Mirrors(
            pods.mirror(),
            nodes.mirror(),
            mignodes.mirror(),
            claims.mirror(),
            volumes.mirror(),
            classes.mirror(),
            namespaces.mirror(),
        )
        heartbeats = Heartbeats(clock, settings.agent_silent_after)
        identity = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        elector = client.elector(settings.lease_namespace, LEASE_NAME, identity)
        recorder = client.recorder("cdmo-controller", identity)
        loop = ControllerLoop(
            mirrors,
            trigger=trigger,
            state=ClusterState(mirrors, heartbeats, settings.policy),
            planner=Planner(),
            promises=Promises(settings.patience),
            publisher=Publisher(client.mig_nodes()),
            fences=StaleFences(mirrors, heartbeats, client.fence(), recorder, settings.fences),
            sink=recorder,
            policy=settings.policy,
            is_leader=elector.is_leader,
            clock=clock,
            settings=settings.rounds,
        )

        async def plan_when_leading() -> None:
            for each in (pods, nodes, mignodes, claims, volumes, classes, namespaces):
                await each.wait_synced()
            gc.freeze()  # the cluster as it is now mostly stays: a collection need not look through it every time
            await elector.wait_leader()
            trigger.pull()
            await loop.run()

        async def finish() -> None:
            """Nothing to carry to an end: a round that was cut off is planned anew by the next leader."""

        await run_until_signalled(
            {
                "watch pods": pods.run,
                "watch nodes": nodes.run,
                "watch mignodes": mignodes.run,
                "watch claims": claims.run,
                "watch volumes": volumes.run,
                "watch storage classes": classes.run,
                "watch namespaces": namespaces.run,
                "lease": elector.run,
                "events": recorder.run,
                "plan": plan_when_leading,
            },
            finish=finish,
            finish_limit=1.0,
        )
