"""One run of the demo: stage, scenario, screen, answer."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from cdmo.cli._output import Output
from cdmo.errors import CdmoError
from cdmo_harness.binaries import Binaries
from cdmo_harness.demo.answer import answer, as_json, as_tables
from cdmo_harness.demo.evidence import problems
from cdmo_harness.demo.live import Screen
from cdmo_harness.demo.scenario import Scenario
from cdmo_harness.demo.stage import Stage, running, save_logs
from cdmo_harness.demo.steps import Steps
from cdmo_harness.errors import HarnessError
from cdmo_harness.local_cluster import CDMO, LocalCluster
from cdmo_harness.observer import ClusterView
from cdmo_harness.run_folder import cleanup_leftovers

_TERMINATED = 128 + signal.SIGTERM


class NotAsPromised(HarnessError):
    """The demo came to its end, but something happened on the way that must not."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    once: bool
    output: Output
    keep: bool
    device_plugin: Path | None
    verbose: bool
    record: Path | None


class Demo:
    """One run. `logs` is where its logs are when it failed, or None; `answered`, whether stdout has the answer."""

    def __init__(self, binaries: Binaries, options: Options, steps: Steps) -> None:
        self.logs: Path | None = None
        self.answered = False
        self._options = options
        self._steps = steps
        self._cluster = LocalCluster(binaries, device_plugin=options.device_plugin, keep_files=options.keep)
        self._terminated = False

    async def run(self) -> int:
        """From nothing to the answer and back to nothing; returns the exit status."""
        await asyncio.to_thread(cleanup_leftovers)
        this = asyncio.current_task()
        assert this is not None, "runs in a task"
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminate, this)
        try:
            async with running(self._cluster, self._steps, self._failed) as stage:
                return await self._play(stage)
        except asyncio.CancelledError:
            if not self._terminated:
                raise  # Ctrl-C: asyncio.run makes a KeyboardInterrupt of it
            return _TERMINATED

    def _terminate(self, task: asyncio.Task[int]) -> None:
        self._terminated = True
        task.cancel()

    def _failed(self) -> None:
        self.logs = save_logs(self._cluster, keep_files=self._options.keep)

    async def _play(self, stage: Stage) -> int:
        scenario = Scenario(stage)
        screen = Screen(stage.view, scenario, self._steps)
        try:
            async with screen.shown():
                found = problems(await scenario.run())
        except CdmoError:
            self._answer(False, scenario, stage.view)
            raise
        self._answer(not found, scenario, stage.view)
        if self._options.record is not None:
            screen.save(self._options.record)
        if self._options.verbose:
            self._tell_memory()
        if found:
            raise NotAsPromised("; ".join(found), hint="run it again with --verbose --keep")
        if self._steps.console.is_terminal and not self._options.once:
            await self._stay(stage)
        return 0

    def _answer(self, ok: bool, scenario: Scenario, view: ClusterView) -> None:
        """The answer on stdout, at once."""
        pods = scenario.outcomes()
        changes = [(each.node, each.report) for each in view.repartitions]
        wants_json = self._options.output is Output.JSON
        sys.stdout.write(as_json(answer(ok, pods, changes)) if wants_json else as_tables(pods, changes))
        sys.stdout.flush()
        self.answered = True

    async def _stay(self, stage: Stage) -> None:
        """Until Ctrl-C, which is then an ordinary end."""
        cdmo = CDMO.relative_to(Path.cwd()) if CDMO.is_relative_to(Path.cwd()) else CDMO
        for line in (
            "",
            "The cluster stays until you press Ctrl-C. In another terminal, for instance:",
            "",
            f"  export KUBECONFIG={self._cluster.control_plane.admin_kubeconfig}",
            f"  {cdmo} status",
            f"  alias kubectl={stage.kubectl}",
            "  kubectl get mignodes",
            "  kubectl delete pod notebook",
        ):
            self._steps.say(line)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if self._terminated or this is None:
                raise
            this.uncancel()

    def _tell_memory(self) -> None:
        for process in (*self._cluster.controllers, *self._cluster.agents.values()):
            self._steps.say(f"{process.resident_bytes() / 1e6:5.0f} MB {process.name}")
