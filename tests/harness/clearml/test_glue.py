"""Tasks in queues become pods of the cluster, made by ClearML's own code and a real kubectl."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.clearml.agent import ClearmlAgent
from cdmo_harness.clearml.errors import AgentMissing, BadQueues, SubmissionRefused
from cdmo_harness.clearml.glue import ClearmlGlue, Submission
from cdmo_harness.clearml.queues import Resources, TemplateOverrides, read_queues
from cdmo_harness.control_plane import ControlPlane

# The first of these tests on a machine downloads about 25 MB.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of this test's own in which pods can be made. They go with the test: the scheduler would bind them
    to the first node on which a later test offers slices."""
    name = f"clearml-{uuid.uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    # The controller manager makes it a moment later; without it pods are refused.
    control_plane.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", name, "--timeout=30s")
    yield name
    control_plane.kubectl("delete", "pods", "--all", "--namespace", name, "--force", "--grace-period=0")
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def glue(agent: ClearmlAgent, control_plane: ControlPlane, namespace: str, example: Path) -> ClearmlGlue:
    """The glue with the guide's four queues."""
    kubeconfig = control_plane.admin_kubeconfig
    return ClearmlGlue(agent, read_queues(example), kubeconfig=kubeconfig, namespace=namespace)


def pods(control_plane: ControlPlane, namespace: str) -> dict[str, dict[str, Any]]:
    """The pods of the namespace by name."""
    listed = json.loads(control_plane.kubectl("get", "pods", "--namespace", namespace, "--output", "json"))
    return {pod["metadata"]["name"]: pod for pod in listed["items"]}


def task_id() -> str:
    """An id as a ClearML server gives it."""
    return uuid.uuid4().hex


def test_each_queue_of_the_guide_makes_a_pod_with_its_slice(
    glue: ClearmlGlue, control_plane: ControlPlane, namespace: str
) -> None:
    slices = {"slice-1": "1g.10gb", "slice-2": "2g.20gb", "slice-4": "4g.40gb", "slice-7": "7g.80gb"}
    submissions = [Submission(queue, task_id()) for queue in slices]
    names = glue.submit_all(submissions)
    assert names == [f"clearml-id-{each.task_id}" for each in submissions]
    made = pods(control_plane, namespace)
    limits = [made[name]["spec"]["containers"][0]["resources"]["limits"] for name in names]
    assert limits == [{f"nvidia.com/mig-{profile}": "1"} for profile in slices.values()]


def test_a_pod_looks_as_the_glue_makes_it(glue: ClearmlGlue, control_plane: ControlPlane, namespace: str) -> None:
    task = task_id()
    name = glue.submit(Submission("slice-2", task))
    pod = pods(control_plane, namespace)[name]
    labels = pod["metadata"]["labels"]
    assert labels.keys() == {"CLEARML", "clearml-agent-queue", "clearml-agent-queue-name"}
    assert labels["CLEARML"].startswith("agent-")
    assert labels["clearml-agent-queue-name"] == "slice-2"
    (container,) = pod["spec"]["containers"]
    assert (pod["spec"]["restartPolicy"], container["command"]) == ("Never", ["/bin/bash"])
    assert container["args"][1].endswith("; exit 0")
    assert {"name": "CLEARML_WORKER_ID", "value": f"cdmo-harness:{task}"} in container["env"]


def test_only_a_pod_with_a_run_time_is_marked(glue: ClearmlGlue, control_plane: ControlPlane, namespace: str) -> None:
    marked, unmarked = glue.submit_all(
        [Submission("slice-1", task_id(), run_seconds=2.5), Submission("slice-1", task_id())]
    )
    made = pods(control_plane, namespace)
    assert made[marked]["metadata"]["annotations"]["cdmo-harness/run-seconds"] == "2.5"
    assert "cdmo-harness/run-seconds" not in made[unmarked]["metadata"]["annotations"]


def test_what_the_api_server_refuses_is_told_with_its_words(
    agent: ClearmlAgent, control_plane: ControlPlane, namespace: str
) -> None:
    nonsense = TemplateOverrides(resources=Resources(limits={"nvidia.com/mig-1g.10gb": "a lot"}))
    glue = ClearmlGlue(agent, {"bad": nonsense}, kubeconfig=control_plane.admin_kubeconfig, namespace=namespace)
    with pytest.raises(SubmissionRefused, match=r"no pod for task one of queue bad: .*quantities must match"):
        glue.submit(Submission("bad", "one"))
    assert pods(control_plane, namespace) == {}


def test_a_kubectl_that_is_missing_is_not_replaced_by_another(
    agent: ClearmlAgent, control_plane: ControlPlane, namespace: str, example: Path
) -> None:
    missing = ClearmlGlue(
        agent,
        read_queues(example),
        kubeconfig=control_plane.admin_kubeconfig,
        namespace=namespace,
        kubectl=example.with_name("no-such-kubectl"),
    )
    with pytest.raises(SubmissionRefused, match=r"No such file or directory: .kubectl"):
        missing.submit(Submission("slice-1", task_id()))


@pytest.mark.parametrize(
    ("submission", "words"),
    [
        (Submission("slice-3", "a"), "no queue slice-3"),
        (Submission("slice-1", "UPPER"), "'UPPER' cannot be a task's id"),
        (Submission("slice-1", "a;rm"), "cannot be a task's id"),
        (Submission("slice-1", "a" * 53), "cannot be a task's id"),
    ],
)
def test_a_wrong_submission_is_refused_before_anything_starts(
    glue: ClearmlGlue, submission: Submission, words: str
) -> None:
    with pytest.raises(BadQueues, match=words):
        glue.submit_all([Submission("slice-1", "good"), submission])


def test_an_agent_that_does_not_start_is_named(control_plane: ControlPlane, example: Path, tmp_path: Path) -> None:
    glue = ClearmlGlue(
        ClearmlAgent(tmp_path), read_queues(example), kubeconfig=control_plane.admin_kubeconfig, namespace="default"
    )
    with pytest.raises(AgentMissing, match=r"cannot be started: .*No such file"):
        glue.submit(Submission("slice-1", "one"))
