"""With its default values the chart installs what deploy/ says: manifests by hand and by Helm are one truth."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import typer
from cdmo_harness.manifests import DEPLOY, FILES, documents

from cdmo.cli.app import app
from tests.chart.rendering import WORKLOADS, Chart, Json, identity, of_kind, one, pod_spec

HOOKS = ("hooks/settle.yaml", "hooks/doctor.yaml")
IN_FILES = [each for name in (*FILES, *HOOKS) if name != "rbac/namespace.yaml" for each in documents(DEPLOY / name)]


def without_labels(item: Json) -> Json:
    """The chart adds Helm's usual labels, and may ask Helm to keep the object."""
    bare = copy.deepcopy(item)
    bare["metadata"].pop("labels", None)
    bare["metadata"].pop("annotations", None)
    return bare


@pytest.mark.parametrize("wanted", IN_FILES, ids=lambda each: "-".join(filter(None, identity(each))))
def test_the_crd_the_roles_and_the_policies_are_those_of_deploy(objects: list[Json], wanted: Json) -> None:
    (found,) = (each for each in objects if identity(each) == identity(wanted))
    assert without_labels(found) == without_labels(wanted)


def test_deploy_asks_for_no_label_that_the_chart_would_lose() -> None:
    assert [each for each in IN_FILES if each["metadata"].keys() & {"labels", "annotations"}] == []


def defaults(verb: str) -> set[str]:
    """The arguments that say what the program does without them."""
    verbs = typer.main.get_command(app)
    command = verbs.commands[verb]  # type: ignore[attr-defined]  # typer says Command of what is its group here
    return {f"{name}={_plain(each.default)}" for each in command.params for name in each.opts}


def _plain(value: Any) -> str:
    """300.0 as Helm writes it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@pytest.mark.parametrize("component", ["controller", "agent"])
def test_the_workloads_are_those_of_deploy(objects: list[Json], component: str) -> None:
    (wanted,) = documents(DEPLOY / f"{component}.yaml")
    found = copy.deepcopy(one(objects, *WORKLOADS[component]))
    program = found["spec"]["template"]["spec"]["containers"][0]
    told = set(program["args"]) & defaults(component)
    assert told, "the chart says what its values say also where the program would do so by itself"
    program["args"] = [each for each in program["args"] if each not in told]
    assert program.pop("imagePullPolicy") == "IfNotPresent"  # what Kubernetes takes for an image with a tag
    assert program["image"].partition(":")[0] == "cdmo"
    program["image"] = wanted["spec"]["template"]["spec"]["containers"][0]["image"]
    assert wanted["metadata"]["labels"].items() <= found["metadata"]["labels"].items()
    assert without_labels(found) == without_labels(wanted)


def test_beside_deploy_there_are_jobs_services_and_a_disruption_budget_only(objects: list[Json]) -> None:
    known = {identity(each) for each in IN_FILES}
    known |= {(kind, "cdmo", name) for kind, name in WORKLOADS.values()}
    beside = sorted({identity(each) for each in objects} - known)
    assert beside == [
        ("PodDisruptionBudget", "cdmo", "cdmo-controller"),
        ("Service", "cdmo", "cdmo-agent"),
        ("Service", "cdmo", "cdmo-controller"),
    ]


def test_another_namespace_is_meant_wherever_deploy_names_its_own(chart: Chart, objects: list[Json]) -> None:
    moved = chart.objects({}, namespace="gpus")
    for here, there in zip(objects, moved, strict=True):
        assert _renamed(here) == there
    policies = {each["metadata"]["name"]: str(each["spec"]) for each in of_kind(moved, "ValidatingAdmissionPolicy")}
    assert "request.namespace != 'gpus'" in policies["cdmo-fence"]
    assert "== 'system:serviceaccount:gpus:cdmo-agent'" in policies["cdmo-agent"]
    assert "== 'system:serviceaccount:gpus:cdmo-controller'" in policies["cdmo-controller"]


def _renamed(value: Any, key: str = "") -> Any:
    """The same object with `gpus` wherever the namespace `cdmo` is named: by its key, or within an expression."""
    if isinstance(value, dict):
        return {name: _renamed(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, key) for each in value]
    if key == "namespace":
        return "gpus" if value == "cdmo" else value
    if key == "expression":
        moved = value.replace("serviceaccount:cdmo:", "serviceaccount:gpus:")
        return moved.replace("request.namespace != 'cdmo'", "request.namespace != 'gpus'")
    return value


def test_every_policy_of_deploy_is_there_and_bound(objects: list[Json]) -> None:
    bound = {each["spec"]["policyName"] for each in of_kind(objects, "ValidatingAdmissionPolicyBinding")}
    policies = {each["metadata"]["name"] for each in of_kind(objects, "ValidatingAdmissionPolicy")}
    assert bound == policies == {f"cdmo-{path.stem}" for path in (DEPLOY / "policy").glob("*.yaml")}


def test_the_agent_runs_where_the_label_is_and_until_the_fence_is_gone(objects: list[Json]) -> None:
    affinity = pod_spec(objects, "agent")["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    keys = [each["matchExpressions"][0]["key"] for each in terms]
    assert keys == [f"cdmo.clear.ml/{name}" for name in ("gpu-partitioning", "managed", "fenced")]
