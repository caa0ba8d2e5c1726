"""`cdmo disable`: a node's GPUs back whole, as the guide's page does it by hand in its steps 1 to 3.

Nothing is changed while pods use the GPUs. Then the MigNode says `Disabled`: from that moment the node's slices are
offered to nobody, and its agent destroys each GPU's and switches its MIG mode off as soon as nothing uses them,
behind the fence as always. When all are whole and the Node offers them, the label goes.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdmo.api.v1alpha1 import Mode
from cdmo.errors import BadInput, ChangeStuck, ClusterUnavailable, NotFound
from cdmo.handover.clients import Clients
from cdmo.handover.port import HandoverApi, existing_node
from cdmo.handover.standing import (
    Standing,
    User,
    capable_gpus,
    giving_back,
    is_whole,
    users_of,
    whole_gpus_offered,
)
from cdmo.handover.waiting import PAUSE, Tell, until_done
from cdmo.model.cluster import labelled
from cdmo.model.gpu import PodKey
from cdmo.model.modes import ModePolicy
from cdmo.model.names import MIG_MODE_ANNOTATION, PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.runtime.clock import Clock

OFFER_LIMIT = 30.0  # for the kubelet's report of whole GPUs, which it makes every ten
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Leaving:
    """How a node is to be taken back. Seconds."""

    wait: bool = False  # for the pods that use its GPUs, for as long as they run
    drain: bool = False  # evict them
    reset: bool = False  # the GPUs may be reset, and NVIDIA's programs stopped for that
    limit: float = 600.0  # once no pod uses them


class Disabler:
    """Takes nodes back, one after the other."""

    def __init__(self, api: HandoverApi, clock: Clock, tell: Tell) -> None:
        self._api = api
        self._clock = clock
        self._tell = tell

    async def check(self, name: str, leaving: Leaving) -> None:
        """Whether it can begin. Raises BadInput: nothing was changed."""
        await existing_node(self._api, name)
        mignode = await self._api.mignode(name)
        if mignode is None:
            raise BadInput(
                f"node {name} is none of CDMO's: it has no MigNode",
                hint="`kubectl get mignodes` lists those; the controller makes one for each labelled node",
            )
        users = users_of(await self._api.pods_on(name))
        if users and not (leaving.wait or leaving.drain):
            raise BadInput(
                f"pods use the GPUs of node {name}: {named(users)}",
                hint="end them, or wait for them with --wait, or have them evicted with --drain",
            )
        stubborn = [each for each in users if each.comes_back]
        if leaving.drain and stubborn:
            raise BadInput(
                f"DaemonSets would make these pods on node {name} anew: {named(tuple(stubborn))}",
                hint="take the node out of their node selectors first",
            )

    async def plan(self, name: str) -> tuple[str, ...]:
        """What would be done, a sentence each. Nothing is changed."""
        node, mignode = await self._api.node(name), await self._api.mignode(name)
        if node is None or mignode is None:
            return ()
        users = users_of(await self._api.pods_on(name))
        slices = sum(len(each.devices) for each in mignode.status.gpus)
        lines = [f"{name}: pods to wait for or to evict: {named(users)}"] if users else []
        if not is_whole(mignode):
            lines.append(f"{name}: destroy {slices} slices, switch MIG mode off on {capable_gpus(mignode)} GPUs")
        label = f"{name}: take the label {PARTITIONING_LABEL} off"
        return (*lines, label) if labelled(node) else (*lines, f"{name}: nothing else, the label is not there")

    async def run(self, name: str, leaving: Leaving) -> None:
        """Take the node back; what is there already is not done again. Raises BadInput, ChangeStuck, ClusterError."""
        clients = Clients(self._api, self._clock, self._tell, name, leaving.limit)
        mignode = await self._api.mignode(name)
        if mignode is not None and not is_whole(mignode):
            await self._give_back(name, leaving, clients)
        await clients.start()
        await self._await_offer(name)
        await self._api.mark_node(name, {PARTITIONING_LABEL: None}, {MIG_MODE_ANNOTATION: None})
        # The label alone says from here on whether CDMO may touch the node: somebody may set it by hand.
        await self._api.set_mode(name, Mode.MANAGED)
        self._tell(f"{name}: its GPUs are whole, and CDMO's label is off")

    async def _give_back(self, name: str, leaving: Leaving, clients: Clients) -> None:
        await self._api.set_mode(name, Mode.DISABLED)
        # Without the label there is no agent: it has to come back for this.
        annotation = {MIG_MODE_ANNOTATION: str(ModePolicy.WITH_RESET)} if leaving.reset else {}
        await self._api.mark_node(name, {PARTITIONING_LABEL: PARTITIONING_VALUE}, annotation)
        self._tell(f"{name}: no pod gets its slices any more")
        await self._until_free(name, leaving)
        node = await self._api.node(name) if leaving.reset else None
        async with clients.stopped(node):
            await self._until_whole(name, leaving)

    async def _until_free(self, name: str, leaving: Leaving) -> None:
        told: tuple[User, ...] = ()
        hindered: dict[PodKey, str] = {}
        while users := users_of(await self._api.pods_on(name)):
            if not (leaving.wait or leaving.drain):
                raise BadInput(
                    f"pods came to use the GPUs of node {name} in the last moment: {named(users)}",
                    hint="no more can come now: run the command again with --wait or --drain, or `cdmo enable`",
                )
            if users != told:
                self._tell(f"{name}: waiting for {named(users)}")
                told = users
            for each in users if leaving.drain else ():
                hindrance = await self._evict(each)
                if hindrance and hindered.get(each.pod) != hindrance:
                    self._tell(f"{name}: not evicted yet: {hindrance}")
                hindered[each.pod] = hindrance
            await self._clock.sleep(PAUSE)

    async def _evict(self, user: User) -> str:
        """What hinders it for now: most often a PodDisruptionBudget."""
        try:
            await self._api.evict(user.pod)
        except NotFound:
            return ""
        except ClusterUnavailable as error:
            return str(error)
        return ""

    async def _until_whole(self, name: str, leaving: Leaving) -> None:
        async def look() -> Standing:
            mignode = await self._api.mignode(name)
            if mignode is None:
                raise ChangeStuck(f"the MigNode of node {name} went away", hint="is CDMO being uninstalled?")
            return giving_back(mignode, self._clock.now())

        await until_done(
            name,
            look,
            clock=self._clock,
            tell=self._tell,
            limit=leaving.limit,
            needs="then run the same command again",
            late="its agent goes on trying; run the same command again, or take it back with `cdmo enable`",
        )

    async def _await_offer(self, name: str) -> None:
        """Until the Node offers its GPUs as whole ones, if it does in time: the kubelet says so, not CDMO."""
        deadline = self._clock.monotonic() + OFFER_LIMIT
        mignode = await self._api.mignode(name)
        capable = capable_gpus(mignode) if mignode is not None else 0
        while True:
            node = await self._api.node(name)
            offered = whole_gpus_offered(node) if node is not None else 0
            if offered >= capable:
                self._tell(f"{name}: offers {offered} whole GPUs")
                return
            if self._clock.monotonic() >= deadline:
                self._tell(f"{name}: offers {offered} whole GPUs of {capable}: is NVIDIA's device plugin there?")
                return
            await self._clock.sleep(PAUSE)


def named(users: tuple[User, ...]) -> str:
    """Some of them, and how many more there are."""
    shown = ", ".join(map(str, users[:_MOST_NAMED]))
    return f"{shown} and {len(users) - _MOST_NAMED} more" if len(users) > _MOST_NAMED else shown
