"""Runs in the ClearML agent's own environment: have pods made by its Kubernetes glue. Not imported by the harness.

Reads {"namespace", "worker", "submissions": [{"queue", "task", "template"}]} from stdin and writes a list of
{"pod", "output", "error"} to stdout, both JSON. clearml-agent 3.0.3: `K8sIntegration.run_one_task` asks the server
for the task and its image, then calls `_get_pod_labels` and `apply_template_and_handle_result`, which calls
`_kubectl_apply` and reports to the server. Here the two calls without the server are made, in that order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any

from clearml_agent.glue.k8s import K8sIntegration  # type: ignore[import-not-found]


def glue(namespace: str, worker: str) -> Any:
    """A glue without a session: its constructor would log in to a server. What its methods read is set here."""
    made = K8sIntegration.__new__(K8sIntegration)
    made._session = SimpleNamespace(config={})  # an agent without clearml.conf: every setting has its default
    made.log = logging.getLogger("clearml_agent.glue")
    made.kind = "pod"
    made.using_jobs = False
    made.namespace = namespace
    made.worker_id = worker
    made.pod_name_prefix = made.DEFAULT_POD_NAME_PREFIX
    made.container_bash_script = made.CONTAINER_BASH_SCRIPT
    made.extra_bash_init_script = None
    made._agent_label = None
    made._docker_force_pull = False
    return made


def submit(made: Any, submission: dict[str, Any]) -> dict[str, Any]:
    """One task to one pod, as `run_one_task` does it."""
    name, task = submission["queue"], submission["task"]
    # A server knows queues by ids of 32 hexadecimal digits; the name is an attribute.
    queue = hashlib.sha256(name.encode()).hexdigest()[:32]
    output, error, pod = made._kubectl_apply(
        pod_name=made.pod_name_prefix + task,
        clearml_conf_create_script=[],
        docker_image=made.get_default_docker_image(made._session, queue),
        docker_args=None,
        docker_bash=None,
        labels=made._get_pod_labels(queue, name, {}),
        queue=queue,
        task_id=task,
        namespace=made.namespace,
        template=submission["template"],
    )
    return {"pod": pod, "output": output, "error": error}


def main() -> None:
    """Entry point. The glue prints as it works; only the answer may reach stdout."""
    request = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):
        made = glue(request["namespace"], request["worker"])
        answers = [submit(made, each) for each in request["submissions"]]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
