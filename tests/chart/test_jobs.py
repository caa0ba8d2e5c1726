"""The chart's two Jobs: what they run, how long at most, with which rights, and that nobody waits for the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from cdmo.cli.app import app
from cdmo.kube.doctor_reader import read_facts
from tests.chart.rendering import WORKLOADS, Chart, Json, container, of_kind, one, pod_spec
from tests.doctor.faults import plugin_file
from tests.doctor.living import LivingCluster
from tests.doctor.recorded import NOW, Recorded, recorded
from tests.fakes.api_store import Address
from tests.kube.objects import connection_to
from tools.generate_access import HOOKS, documents, grants

JOBS = ("settle", "doctor")
HOOK = "helm.sh/hook"


def annotations(item: Json) -> Json:
    return dict(item["metadata"].get("annotations", {}))


def hooks(objects: list[Json]) -> list[Json]:
    return [each for each in objects if HOOK in annotations(each)]


@pytest.mark.parametrize("component", JOBS)
def test_a_job_runs_a_verb_with_options_that_it_knows(objects: list[Json], component: str) -> None:
    program = container(objects, component)
    executable, verb = program["command"]
    assert (executable, verb) == ("cdmo", component)
    known = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]  # typer says Command of its group
    options = {name for each in known.params for name in each.opts}
    assert {each.partition("=")[0] for each in program["args"]} <= options


@pytest.mark.parametrize("component", JOBS)
def test_a_job_ends_and_is_not_tried_again(objects: list[Json], component: str) -> None:
    spec = one(objects, *WORKLOADS[component])["spec"]
    assert spec["backoffLimit"] == 0
    assert 0 < spec["activeDeadlineSeconds"] <= 300  # `helm --timeout` is 5 minutes unless somebody says otherwise
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("component", JOBS)
def test_a_job_keeps_to_the_pod_security_level_that_the_controller_keeps_to(
    objects: list[Json], component: str
) -> None:
    for part in ("securityContext", "priorityClassName"):
        assert pod_spec(objects, component)[part] == pod_spec(objects, "controller")[part]
    for part in ("image", "imagePullPolicy", "securityContext", "resources", "env"):
        assert container(objects, component)[part] == container(objects, "controller")[part]


@pytest.mark.parametrize("component", JOBS)
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"controller": {"keepOffGpuNodes": False}},
        {"controller": {"nodeSelector": {"pool": "system"}, "tolerations": [{"key": "pool", "operator": "Exists"}]}},
        {"controller": {"keepOffGpuNodes": False, "affinity": {"nodeAffinity": {}}}},
        {"imagePullSecrets": ["login"], "kubernetesApi": {"host": "10.0.0.1"}},
    ],
    ids=["defaults", "anywhere", "a pool", "an affinity", "a registry and an address"],
)
def test_a_job_runs_where_the_controller_may_and_reaches_what_it_reaches(
    chart: Chart, component: str, values: Json
) -> None:
    objects = chart.objects(values)
    here, controller = pod_spec(objects, component), pod_spec(objects, "controller")
    for part in ("nodeSelector", "tolerations", "imagePullSecrets"):
        assert here.get(part) == controller.get(part)
    assert here.get("affinity", {}).get("nodeAffinity") == controller["affinity"].get("nodeAffinity")
    assert container(objects, component)["env"] == container(objects, "controller")["env"]


def test_before_an_uninstall_there_are_rights_first_and_then_the_job(objects: list[Json]) -> None:
    found = hooks(objects)
    assert {annotations(each)[HOOK] for each in found} == {"pre-delete"}
    weights = {each["kind"]: int(annotations(each)["helm.sh/hook-weight"]) for each in found}
    assert weights.keys() == {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Job"}
    assert all(weight < weights["Job"] for kind, weight in weights.items() if kind != "Job")


def test_what_helm_makes_for_the_uninstall_goes_with_it_and_comes_anew_each_time(objects: list[Json]) -> None:
    policies = {annotations(each)["helm.sh/hook-delete-policy"] for each in hooks(objects)}
    assert policies == {"before-hook-creation,hook-succeeded"}
    assert one(objects, "Job", "cdmo-settle")["spec"]["ttlSecondsAfterFinished"] == 3600


def test_helm_shows_why_it_stopped(objects: list[Json]) -> None:
    job = one(objects, "Job", "cdmo-settle")
    assert annotations(job)["helm.sh/hook-output-log-policy"] == "hook-failed"


def test_helm_waits_for_no_doctor(objects: list[Json]) -> None:
    """A hook that fails or is late would make the install a failed one."""
    assert HOOK not in annotations(one(objects, "Job", "cdmo-doctor-1"))
    assert container(objects, "doctor")["args"] == ["--exit-zero", "--wait=120"]


@pytest.mark.parametrize("seconds", [0, 60, 3600])
def test_the_job_has_time_for_its_wait_and_for_its_image(chart: Chart, seconds: int) -> None:
    objects = chart.objects({"uninstall": {"waitSeconds": seconds}})
    assert f"--wait={seconds}" in container(objects, "settle")["args"]
    assert one(objects, "Job", "cdmo-settle")["spec"]["activeDeadlineSeconds"] == seconds + 90


def test_without_a_doctor_there_is_nothing_of_it(chart: Chart) -> None:
    values = {
        "doctor": {"enabled": False, "configMapNamespaces": ["gpu-operator"]},
        "networkPolicy": {"enabled": True},
    }
    assert [each for each in chart.objects(values) if "doctor" in each["metadata"]["name"]] == []
    assert "doctor-" not in chart.notes(values)


def test_the_doctor_reads_config_maps_in_the_namespaces_that_are_named_and_nowhere_else(chart: Chart) -> None:
    objects = chart.objects({"doctor": {"configMapNamespaces": ["gpu-operator", "nvidia"]}})
    roles = [each for each in of_kind(objects, "Role") if each["metadata"]["name"] == "cdmo-doctor"]
    assert [each["metadata"]["namespace"] for each in roles] == ["gpu-operator", "nvidia"]
    assert all(
        each["rules"] == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}] for each in roles
    )
    everywhere = one(objects, "ClusterRole", "cdmo-doctor")["rules"]
    assert [each for each in everywhere if "configmaps" in each["resources"]] == []


def test_in_the_network_the_jobs_reach_the_api_server_and_nobody_reaches_them(chart: Chart) -> None:
    policies = of_kind(chart.objects({"networkPolicy": {"enabled": True}}), "NetworkPolicy")
    specs = {each["metadata"]["name"]: each["spec"] for each in policies}
    assert specs.keys() == {f"cdmo-{component}" for component in WORKLOADS}
    for component in JOBS:
        spec = specs[f"cdmo-{component}"]
        assert spec["egress"] == specs["cdmo-controller"]["egress"]
        assert spec["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in spec


def test_the_notes_say_where_the_report_and_the_reason_are(chart: Chart) -> None:
    notes = chart.notes({"uninstall": {"waitSeconds": 77}})
    assert "kubectl logs -n cdmo job/cdmo-doctor-1" in notes
    assert "kubectl logs -n cdmo job/cdmo-settle" in notes
    assert "77 s at most" in notes
    assert "helm rollback -n cdmo cdmo 1" in notes
    assert "--no-hooks" in notes


def everything_read() -> Recorded:
    """A cluster in which the doctor has something of each kind to look at."""
    cluster = recorded()
    plugin_file("flags: {migStrategy: mixed}", default="mig")(cluster)
    return cluster


async def test_the_doctors_account_has_exactly_the_rights_that_are_asked_for(tmp_path: Path) -> None:
    async with LivingCluster(everything_read()) as server, connection_to(server.url, tmp_path) as connection:
        await read_facts(connection, NOW, 20)
        asked = set()
        for request in server.requests:
            if request.path == "/version":  # everybody may
                continue
            address = Address.parse(request.path)
            group = address.prefix.split("/")[1] if address.prefix.startswith("apis/") else ""
            asked.add(({"post": "create"}.get(request.verb, request.verb), group, address.plural))
    granted = [each for each in grants(list(documents(HOOKS))) if each.account == "cdmo-doctor"]
    assert all((each.namespace, each.name) == ("", "") for each in granted)
    by_value = {("get", "", "configmaps")}  # doctor.configMapNamespaces
    assert asked == {(each.verb, each.group, each.resource) for each in granted} | by_value
