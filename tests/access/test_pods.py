"""The pods that CDMO runs in: what Pod Security says to them, and that they fit the program and the roles."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.manifests import DEPLOY, documents

from cdmo.agent.main import AgentSettings
from tests.access.caller import Act, Answer, Caller, Json

pytestmark = pytest.mark.timeout(60)

CONTROLLER, AGENT = DEPLOY / "controller.yaml", DEPLOY / "agent.yaml"
LEVELS = ("privileged", "baseline", "restricted")


def workload(path: Path) -> Json:
    """The one object of a manifest."""
    (found,) = documents(path)
    return found


def template(path: Path) -> Json:
    """Its pods' spec."""
    spec: Json = workload(path)["spec"]["template"]["spec"]
    return spec


def container(spec: Json) -> Json:
    """The one container of a pod."""
    (found,) = spec["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def levels(admin: Caller) -> Caller:
    """The administrator, in a cluster with a namespace for each level of Pod Security and CDMO's accounts in it."""
    for level in LEVELS:
        labels = {"pod-security.kubernetes.io/enforce": level}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"level-{level}", "labels": labels}}
        admin.create("/api/v1/namespaces", body)
        for name in ("cdmo-controller", "cdmo-agent"):
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            admin.create(f"/api/v1/namespaces/level-{level}/serviceaccounts", account)
    return admin


def submit(caller: Caller, spec: Json, namespace: str) -> Answer:
    """Ask for such a pod, as the workload's controller would; nothing is kept of it."""
    metadata = {"name": "pod", "namespace": namespace}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return caller.do(Act("POST", f"/api/v1/namespaces/{namespace}/pods", body, dry_run=True))


@pytest.mark.cluster
@pytest.mark.parametrize("path", [CONTROLLER, AGENT], ids=lambda each: each.stem)
def test_the_api_server_takes_the_manifest_as_it_is(admin: Caller, path: Path) -> None:
    body = workload(path)
    group, _, plural = body["apiVersion"], body["kind"], f"{body['kind'].lower()}s"
    act = Act("POST", f"/apis/{group}/namespaces/cdmo/{plural}", body, dry_run=True)
    strict = Act(act.method, f"{act.path}?fieldValidation=Strict&dryRun=All", act.body)
    stored = admin.do(strict).require()
    assert stored["spec"]["template"]["spec"]["serviceAccountName"] == body["metadata"]["name"]


@pytest.mark.cluster
def test_the_controllers_pod_is_welcome_where_restricted_is_enforced(levels: Caller) -> None:
    submit(levels, template(CONTROLLER), "level-restricted").require()


def _set(part: str, key: str, value: Any) -> Callable[[Json], None]:
    def change(spec: Json) -> None:
        place = spec if part == "pod" else spec["containers"][0]
        place.setdefault("securityContext", {})[key] = value

    return change


LOOSENED: dict[str, tuple[Callable[[Json], None], str]] = {
    "root": (_set("pod", "runAsUser", 0), "runAsUser"),
    "any user": (_set("pod", "runAsNonRoot", False), "runAsNonRoot"),
    "no seccomp": (_set("pod", "seccompProfile", {"type": "Unconfined"}), "seccompProfile"),
    "escalation": (_set("container", "allowPrivilegeEscalation", True), "allowPrivilegeEscalation"),
    "capabilities": (_set("container", "capabilities", {}), "capabilities"),
    "one capability": (_set("container", "capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "SYS_ADMIN"),
    "host": (lambda spec: spec.update(volumes=[{"name": "h", "hostPath": {"path": "/"}}]), "hostPath"),
}


@pytest.mark.cluster
@pytest.mark.parametrize(("loosen", "named"), LOOSENED.values(), ids=LOOSENED)
def test_every_restriction_of_the_controllers_pod_is_needed_for_that(
    levels: Caller, loosen: Callable[[Json], None], named: str
) -> None:
    spec = copy.deepcopy(template(CONTROLLER))
    loosen(spec)
    answer = submit(levels, spec, "level-restricted")
    assert (answer.status, named in answer.message) == (403, True), answer.message


@pytest.mark.cluster
def test_the_agents_pod_is_refused_by_baseline_for_what_its_manifest_explains_and_nothing_else(
    levels: Caller,
) -> None:
    answer = submit(levels, template(AGENT), "level-baseline")
    assert answer.status == 403
    violations = answer.message.partition("baseline:latest")[2]
    assert "host namespaces (hostPID=true)" in violations
    assert 'hostPath volumes (volumes "host", "state")' in violations
    assert 'privileged (container "agent" must not set' in violations
    assert violations.count("must not") <= 1 and "hostNetwork" not in violations and "hostIPC" not in violations
    submit(levels, template(AGENT), "level-privileged").require()


@pytest.mark.cluster
@pytest.mark.parametrize("path", [CONTROLLER, AGENT], ids=lambda each: each.stem)
def test_cdmos_own_namespace_takes_both(admin: Caller, path: Path) -> None:
    submit(admin, template(path), "cdmo").require()


def test_the_controllers_pod_writes_no_file_of_its_image_and_holds_nothing_of_its_node() -> None:
    spec = template(CONTROLLER)
    context = container(spec)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert "volumes" not in spec
    assert not {"hostPID", "hostNetwork", "hostIPC"} & spec.keys()


def test_the_controller_stays_off_the_nodes_whose_gpus_users_get() -> None:
    (term,) = template(CONTROLLER)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {"matchExpressions": [{"key": "cdmo.clear.ml/gpu-partitioning", "operator": "DoesNotExist"}]}


def test_the_agent_writes_its_journal_and_reads_the_rest_of_the_host() -> None:
    mounts = {each["mountPath"]: each for each in container(template(AGENT))["volumeMounts"]}
    assert mounts["/host"]["readOnly"] is True
    assert mounts["/host"]["mountPropagation"] == "HostToContainer"
    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert writable == ["/host/var/lib/cdmo"]


def test_the_agent_gets_the_time_that_a_change_may_take() -> None:
    change_limit = AgentSettings.__dataclass_fields__["change_limit"].default
    assert template(AGENT)["terminationGracePeriodSeconds"] > change_limit


@pytest.mark.parametrize("path", [CONTROLLER, AGENT], ids=lambda each: each.stem)
def test_a_token_comes_with_the_pod_alone(path: Path) -> None:
    spec = template(path)
    (account,) = (each for each in documents(DEPLOY / "rbac" / path.name) if each["kind"] == "ServiceAccount")
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is True
    assert account["automountServiceAccountToken"] is False
