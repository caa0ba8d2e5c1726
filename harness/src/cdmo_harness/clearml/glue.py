"""Hand tasks to ClearML's own Kubernetes code, which makes their pods with kubectl."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cdmo_harness.clearml.agent import ClearmlAgent
from cdmo_harness.clearml.errors import AgentMissing, BadQueues, SubmissionRefused
from cdmo_harness.clearml.queues import TemplateOverrides
from cdmo_harness.kubelet.pods import RUN_SECONDS

_SCRIPT = Path(__file__).with_name("glue_script.py")

# Seconds: importing the agent takes about half of one, each kubectl a few tenths on an idle machine.
_START_LIMIT = 60
_LIMIT_PER_POD = 30

# A task id ends up in the pod's name; ClearML's own are 32 hexadecimal digits.
_TASK_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Submission:
    """One task that a user put into a queue."""

    queue: str
    task_id: str
    run_seconds: float | None = None
    """How long the pod runs on a simulated node; None: until it is deleted."""


class _Result(msgspec.Struct, frozen=True):
    pod: str | None
    output: str | None
    error: str | None


class ClearmlGlue:
    """The glue of one agent: it serves these queues in one namespace of one cluster. Calls block."""

    def __init__(
        self,
        agent: ClearmlAgent,
        queues: Mapping[str, TemplateOverrides],
        *,
        kubeconfig: Path,
        namespace: str,
        kubectl: Path | None = None,
    ) -> None:
        """`kubectl` replaces the one that came with the agent. The namespace has to exist."""
        self._agent = agent
        self._queues = dict(queues)
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._kubectl = kubectl or agent.kubectl

    def submit(self, submission: Submission) -> str:
        """Have the pod of one task made; returns its name."""
        return self.submit_all([submission])[0]

    def submit_all(self, submissions: Sequence[Submission]) -> list[str]:
        """Have the pods of these tasks made in this order; returns their names.

        One start of the agent's code serves them all. SubmissionRefused names the first pod that was
        refused; the others were tried all the same.
        """
        request = {
            "namespace": self._namespace,
            "worker": "cdmo-harness",
            "submissions": [self._request(each) for each in submissions],
        }
        limit = _START_LIMIT + _LIMIT_PER_POD * len(submissions)
        with tempfile.TemporaryDirectory(prefix="cdmo-clearml-") as home:
            answers = self._call(msgspec.json.encode(request), Path(home), limit)
        return [_pod(submission, answer) for submission, answer in zip(submissions, answers, strict=True)]

    def _request(self, submission: Submission) -> dict[str, Any]:
        overrides = self._queues.get(submission.queue)
        if overrides is None:
            known = ", ".join(sorted(self._queues))
            raise BadQueues(f"there is no queue {submission.queue}", hint=f"the values file has: {known}")
        if _TASK_ID.fullmatch(submission.task_id) is None:
            raise BadQueues(
                f"{submission.task_id!r} cannot be a task's id",
                hint="use up to 52 lower-case letters, digits and inner hyphens: it becomes part of the pod's name",
            )
        seconds = submission.run_seconds
        annotations = {} if seconds is None else {RUN_SECONDS: f"{seconds:g}"}
        return {
            "queue": submission.queue,
            "task": submission.task_id,
            "template": overrides.pod_template(annotations),
        }

    def _call(self, request: bytes, home: Path, limit: float) -> list[_Result]:
        # The glue finds kubectl by name on PATH; nothing else is there, lest it takes another one.
        (home / "kubectl").symlink_to(self._kubectl.absolute())
        environment = {
            "PATH": str(home),
            "HOME": str(home),  # no clearml.conf of this user, no kubectl cache in their home
            "TMPDIR": str(home),
            "KUBECONFIG": str(self._kubeconfig.absolute()),
        }
        # Without the agent's own warnings: it still uses pkg_resources.
        command = [str(self._agent.python), "-I", "-W", "ignore", str(_SCRIPT)]
        try:
            answer = subprocess.run(
                command, input=request, capture_output=True, env=environment, cwd=home, timeout=limit
            )
        except OSError as error:
            raise AgentMissing(f"clearml-agent cannot be started: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise SubmissionRefused(f"the ClearML glue did not finish within {limit:g} s") from error
        if answer.returncode != 0:
            said = answer.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
            raise AgentMissing(f"the ClearML glue ended with status {answer.returncode}: {said[-1][:500]}")
        return msgspec.json.decode(answer.stdout, type=list[_Result])


def _pod(submission: Submission, result: _Result) -> str:
    # The glue takes whatever kubectl says on stderr for a failure, and so do we.
    if result.error or result.pod is None:
        said = (result.error or "no pod was made").strip()[:500]
        raise SubmissionRefused(f"no pod for task {submission.task_id} of queue {submission.queue}: {said}")
    return result.pod
