"""All that the chart can make against the schemas of Kubernetes 1.34 to 1.37: no unknown field, no wrong type.

The schemas are stricter than the API server, which lets most unknown fields go by without a word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cdmo_harness.binaries import kubernetes_versions
from cdmo_harness.manifests import DEPLOY, documents

from tests.chart.kubernetes_schemas import MINORS, Fault, schemas
from tests.chart.rendering import WORKLOADS, Chart, Json, merged, nested, of_kind, one
from tests.chart.settings import LEAVES, PREMISES, all_values
from tests.chart.test_values import another
from tools.chart_values import Value
from tools.generate_kubernetes_schemas import KINDS, path_of


def faults(minor: str, objects: list[Json]) -> list[Fault]:
    return [fault for each in objects for fault in schemas(minor).faults(each)]


@pytest.fixture(scope="module")
def everything(chart: Chart) -> list[Json]:
    """With all that can be switched on."""
    return chart.objects(all_values())


def test_there_are_schemas_of_every_version_that_the_tests_run_on_and_no_others() -> None:
    wanted = {path_of(version).name: version for version in kubernetes_versions()}
    found = {f"kubernetes-{minor}.json": schemas(minor).version for minor in MINORS}
    assert found == wanted
    assert MINORS == ("1.34", "1.35", "1.36", "1.37")


def test_the_schemas_are_of_the_kinds_that_the_chart_makes(everything: list[Json]) -> None:
    assert {(each["apiVersion"], each["kind"]) for each in everything} == set(KINDS)


@pytest.mark.parametrize("minor", MINORS)
def test_nothing_is_wrong_with_what_the_default_values_make(objects: list[Json], minor: str) -> None:
    assert faults(minor, objects) == []


@pytest.mark.parametrize("minor", MINORS)
def test_nothing_is_wrong_with_everything_that_can_be_switched_on(everything: list[Json], minor: str) -> None:
    assert faults(minor, everything) == []


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("name", ["controller.yaml", "agent.yaml", "rbac/namespace.yaml"])
def test_nothing_is_wrong_with_the_manifests_that_the_chart_does_not_copy(name: str, minor: str) -> None:
    objects = list(documents(DEPLOY / name))
    assert objects
    assert faults(minor, [each for each in objects if each["kind"] != "Namespace"]) == []


def changed(chart: Chart, value: Value) -> list[Json]:
    return chart.objects(merged(PREMISES.get(value.name, {}), nested(value.path, another(value))))


@pytest.mark.parametrize("value", LEAVES, ids=lambda each: each.name)
def test_nothing_is_wrong_with_what_one_changed_value_makes(chart: Chart, value: Value) -> None:
    objects = changed(chart, value)
    assert {minor: faults(minor, objects) for minor in MINORS} == {minor: [] for minor in MINORS}


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault, put into an object of a kind, and where it must be found."""

    kind: str
    plant: Callable[[Json], None]
    place: str
    sentence: str


def put(*path: str | int, value: Any) -> Callable[[Json], None]:
    """Write a value at a place of an object."""

    def plant(item: Json) -> None:
        place: Any = item
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return plant


def drop(*path: str | int) -> Callable[[Json], None]:
    """Take a field out of an object."""

    def plant(item: Json) -> None:
        place: Any = item
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]

    return plant


_POD = ("spec", "template", "spec")
_CONTAINER = (*_POD, "containers", 0)
_VALIDATION = ("spec", "validations", 0)
_SCHEMA = ("spec", "versions", 0, "schema", "openAPIV3Schema")
PLANTED = {
    "misspelt in a container": Planted(
        "DaemonSet",
        put(*_CONTAINER, "imagePulPolicy", value="Always"),
        "spec.template.spec.containers.0",
        "unexpected",
    ),
    "misspelt in a pod": Planted("Job", put(*_POD, "nodeSelectors", value={}), "spec.template.spec", "unexpected"),
    "at the wrong depth": Planted("Deployment", put("spec", "containers", value=[]), "spec", "unexpected"),
    "misspelt at the top": Planted("Service", put("sepc", value={}), "", "unexpected"),
    "a word for a number": Planted("Deployment", put("spec", "replicas", value="two"), "spec.replicas", "'two'"),
    "a number for a word": Planted(
        "Deployment", put(*_CONTAINER, "args", 0, value=8443), "spec.template.spec.containers.0.args.0", "8443"
    ),
    "a fraction for a whole number": Planted(
        "Job", put("spec", "activeDeadlineSeconds", value=1.5), "spec.activeDeadlineSeconds", "1.5"
    ),
    "a number that is too big": Planted(
        "Deployment", put("spec", "replicas", value=2**31), "spec.replicas", "is not a 'int32'"
    ),
    "neither a number nor a share": Planted(
        "PodDisruptionBudget", put("spec", "maxUnavailable", value=True), "spec.maxUnavailable", "True"
    ),
    "a list for a mapping": Planted(
        "NetworkPolicy", put("spec", "podSelector", value=[]), "spec.podSelector", "is not of type 'object'"
    ),
    "a mapping for a list": Planted(
        "ClusterRole", put("rules", 0, "verbs", value={}), "rules.0.verbs", "is not of type 'array'"
    ),
    "an environment of numbers": Planted(
        "Job",
        put(*_CONTAINER, "env", 0, value={"name": "A", "value": 1}),
        "spec.template.spec.containers.0.env.0.value",
        "1",
    ),
    "a missing name": Planted("Job", drop(*_CONTAINER, "name"), "spec.template.spec.containers.0", "'name'"),
    "a missing role": Planted("ClusterRoleBinding", drop("roleRef"), "", "'roleRef' is a required property"),
    "nothing for a list": Planted("ClusterRole", put("rules", 0, "verbs", value=None), "rules.0.verbs", "None"),
    "a label that is a number": Planted(
        "ServiceAccount", put("metadata", "labels", "a", value=1), "metadata.labels.a", "1 is not of type 'string'"
    ),
    "not base64": Planted("Secret", put("data", "key", value="%%"), "data.key", "is not a 'byte'"),
    "misspelt in a policy": Planted(
        "ValidatingAdmissionPolicy", put(*_VALIDATION, "reasons", value="x"), "spec.validations.0", "unexpected"
    ),
    "a policy's rule without its expression": Planted(
        "ValidatingAdmissionPolicy", drop(*_VALIDATION, "expression"), "spec.validations.0", "'expression'"
    ),
    "actions as one word": Planted(
        "ValidatingAdmissionPolicyBinding",
        put("spec", "validationActions", value="Deny"),
        "spec.validationActions",
        "Deny",
    ),
    "misspelt deep in the CRD": Planted(
        "CustomResourceDefinition",
        put(*_SCHEMA, "properties", "spec", "properties", "gpus", "items", "requird", value=[]),
        "spec.versions.0.schema.openAPIV3Schema.properties.spec.properties.gpus.items",
        "unexpected",
    ),
    "a wrong type deep in the CRD": Planted(
        "CustomResourceDefinition",
        put(*_SCHEMA, "properties", "spec", "properties", "gpus", "maxItems", value="many"),
        "spec.versions.0.schema.openAPIV3Schema.properties.spec.properties.gpus.maxItems",
        "'many'",
    ),
}


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_planted_fault_is_found(everything: list[Json], planted: Planted, minor: str) -> None:
    item = copy.deepcopy(of_kind(everything, planted.kind)[0])
    planted.plant(item)
    found = faults(minor, [item])
    assert any(each.place == planted.place and planted.sentence in each.sentence for each in found), found


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("policy/v1beta1", "PodDisruptionBudget"), ("batch/v1beta1", "Job"), ("apps/v2", "DaemonSet")],
)
def test_an_api_version_that_there_is_not_is_found(
    everything: list[Json], api_version: str, kind: str, minor: str
) -> None:
    item = {**of_kind(everything, kind)[0], "apiVersion": api_version}
    (found,) = faults(minor, [item])
    assert found.sentence == f"{api_version}/{kind} is nothing that {schemas(minor).version} has"


def test_an_api_version_that_came_later_is_found_in_the_minors_before_it(everything: list[Json]) -> None:
    policy = of_kind(everything, "ValidatingAdmissionPolicy")[0]
    young = {**policy, "kind": "MutatingAdmissionPolicy"}  # v1 since 1.36
    said = {minor: [each.sentence for each in faults(minor, [young])] for minor in MINORS}
    assert [minor for minor in MINORS if "is nothing that" in said[minor][0]] == ["1.34", "1.35"]
    assert all("add it to KINDS" in said[minor][0] for minor in ("1.36", "1.37"))


@pytest.mark.parametrize(
    ("field", "minors"),
    [("workloadRef", ["1.35"]), ("schedulingGroup", ["1.36", "1.37"]), ("evictionResponders", ["1.37"])],
)
def test_a_field_of_pods_is_found_in_the_minors_that_do_not_have_it(
    everything: list[Json], field: str, minors: list[str]
) -> None:
    item = copy.deepcopy(one(everything, *WORKLOADS["agent"]))
    item["spec"]["template"]["spec"][field] = None  # of the wrong type everywhere, but unknown in some
    unknown = {minor for minor in MINORS if any("unexpected" in each.sentence for each in faults(minor, [item]))}
    assert unknown == set(MINORS) - set(minors)
