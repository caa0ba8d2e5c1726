"""The real NodeChange on fakes: each call it makes is told in the model's words, and may be made to fail or to kill.

What is called is the port: the API as the fence sees it, the kubelet, the driver, the journal, the device plugin. The
names are FLOW's; which one a call belongs to follows from the phase the change is in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pytest

from cdmo.agent.change import NodeChange, Outcome, Phase
from cdmo.agent.observe import Observation
from cdmo.agent.steps import Step, Steps
from cdmo.errors import (
    CdmoError,
    ClusterUnavailable,
    DriverFault,
    JournalUnwritable,
    KubeletUnavailable,
    PluginAbsent,
)
from cdmo.model.cluster import NodeInfo
from cdmo.model.gpu import Placement
from tests.agent.nodes import Rig

SETTLE = 0.02  # seconds, FenceLimits.settle


class Killed(BaseException):
    """The process ends here: nothing of it runs any more, no `finally` and no clean-up reaches anybody."""


class Recorder:
    """A Progress, and a tap on every port of a rig. `trace` is what the change did, in FLOW's words.

    fail_at, kill_at: the number of the call at which it fails, or is killed; before the call does anything.
    lose_at: that of the write to the Node of which the answer is lost: it is done, and fails.
    """

    def __init__(
        self, rig: Rig, patch: pytest.MonkeyPatch, *, fail_at: int = -1, kill_at: int = -1, lose_at: int = -1
    ) -> None:
        self.rig = rig
        self.trace: list[str] = []
        self.calls: list[str] = []
        self._fail_at = fail_at
        self._kill_at = kill_at
        self._lose_at = lose_at
        self._phase: Phase | None = None
        self._lowers = False
        self._undoes = False
        self._dead = False
        rig.node.on_call = self._node_called
        rig.gpus.on_call = self._driver_called
        for name, step in (("write", "journal.write"), ("clear", "unfence.forget")):
            patch.setattr(rig.journal, name, self._tapped(getattr(rig.journal, name), step))
        for name in ("set_taint", "set_labels", "swap_label", "set_mig_capacity", "remove_taint"):
            patch.setattr(rig.node, name, self._losing(getattr(rig.node, name)))
        self._tap_sleep(patch)
        self._tap_reload(patch)

    def entered(self, phase: Phase) -> None:
        """The change says where it is."""
        self._phase = phase

    async def run(self, change: NodeChange, *wanted: Placement, owed: bool) -> Outcome | None:
        """One change; None when it was killed."""
        decide = self.rig.wanting(*wanted)

        def decided(observation: Observation, node: NodeInfo) -> Steps:
            self._did("guard.decide")
            return decide(observation, node)

        try:
            return await change.run(decided, "boot", reload_anyway=owed, withheld={})
        except Killed:
            return None

    # --- taps -----------------------------------------------------------------------------------------------

    def _did(self, step: str) -> None:
        if not self.trace or self.trace[-1] != step:
            self.trace.append(step)

    def _call(self, name: str, step: str, failure: CdmoError) -> None:
        if self._dead:
            raise Killed
        number = len(self.calls)
        self.calls.append(name)
        if number == self._kill_at:
            self._dead = True
            raise Killed
        if step:
            self._did(step)
        if number == self._fail_at:
            self._undoes = name.startswith("driver") and self._phase is Phase.APPLY
            raise failure
        if name == "set_taint":
            self._did("fence.label")

    def _node_called(self, name: str) -> None:
        self._lowers = self._lowers or name == "unfence"
        kubelet = name in ("list", "get", "allocatable")
        failure = KubeletUnavailable("no answer") if kubelet else ClusterUnavailable("no answer")
        self._call(name, self._step_of(name), failure)

    def _step_of(self, name: str) -> str:
        if name == "probe":
            raised = "fence.probe" if self._phase is Phase.FENCE else "unfence.verify"
            return "lower.probe" if self._lowers else raised
        if name not in ("node", "set_mig_capacity"):
            return _STEPS[name]
        if self._phase is Phase.PUBLISH:
            absent = self.trace[-1] in ("reload.hang_up", "publish.nothing")
            return "publish.nothing" if absent else "publish.write"
        if self._phase is Phase.FENCE:  # where it never came to a mark, whose the fence is has to be looked up
            return "fence.mark" if self.trace[-1] == "fence.mark" else ""
        return "unfence.compare" if self._phase is Phase.UNFENCE else ""  # the counts are written again

    def _driver_called(self, name: str) -> None:
        if name in ("create", "destroy"):
            step = "apply.undo" if self._undoes else "apply.step"
        else:
            step = _READS_DRIVER.get(self._phase, "")
        self._call(f"driver {name}", step, DriverFault("unknown", code=999))

    def _tapped(self, original: Callable[..., None], step: str) -> Callable[..., None]:
        def tapped(*arguments: tuple[Step, ...] | str) -> None:
            self._call(step, step, JournalUnwritable("no space"))
            original(*arguments)

        return tapped

    def _losing(self, original: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def losing(*arguments: object, **named: object) -> object:
            answer = await original(*arguments, **named)
            if len(self.calls) - 1 == self._lose_at:
                raise ClusterUnavailable("the answer was lost")
            return answer

        return losing

    def _tap_sleep(self, patch: pytest.MonkeyPatch) -> None:
        original = self.rig.clock.sleep

        async def sleep(seconds: float) -> None:
            if self._phase is Phase.FENCE and seconds == SETTLE and not self._lowers:
                self._did("fence.settle")
            await original(seconds)

        patch.setattr(self.rig.clock, "sleep", sleep)

    def _tap_reload(self, patch: pytest.MonkeyPatch) -> None:
        original = self.rig.node.reload

        async def reload(expected: Mapping[str, frozenset[str]], *rest: frozenset[str]) -> None:
            try:
                await original(expected, *rest)
            except PluginAbsent:
                raise
            except CdmoError:
                self._did("reload.wait")
                raise
            self._did("reload.wait")

        patch.setattr(self.rig.node, "reload", reload)


_STEPS: Mapping[str, str] = {
    "api_servers": "",
    "set_taint": "fence.taint",  # and fence.label, where it does not fail: one write
    "fence": "fence.label",
    "pods_on": "quiet.list",
    "list": "quiet.kubelet",
    "mark": "fence.mark",
    "reload": "reload.hang_up",
    "compare": "unfence.compare",
    "unfence": "lower.label",
    "remove_taint": "lower.taint",
    "allocatable": "",
    "witness": "",  # it is asked and heard beside the proofs and the settling, which are over later
    "has_heard": "",
    "dismiss": "",
    "get": "",
}
_READS_DRIVER: Mapping[Phase | None, str] = {Phase.QUIET: "quiet.driver", Phase.RELOAD: "reload.hang_up"}
