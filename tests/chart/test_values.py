"""Every key of values.yaml: used by a template, refused when it is of the wrong type, and alone in its section."""

from __future__ import annotations

import re
from functools import reduce
from typing import Any

import pytest

from tests.chart.rendering import Chart, Json, Refused, merged, nested
from tests.chart.settings import CHANGED, LEAVES, PREMISES, SECTIONS
from tools.chart_values import Value

# The registry is by default the image's own, so its name is in the output before and after.
DERIVED = {"imageCredentials.registry"}


def another(value: Value) -> Any:
    """A value that is allowed and is not the default."""
    if value.name in CHANGED:
        return CHANGED[value.name]
    assert value.sub_schema is not None
    choices = value.sub_schema.get("enum")
    if choices:
        return next(each for each in choices if each != value.default)
    if isinstance(value.default, bool):
        return not value.default
    assert isinstance(value.default, int | float), f"say in CHANGED what else {value.name} may be"
    return value.default + 1


@pytest.mark.parametrize("value", [each for each in LEAVES if each.name not in DERIVED], ids=lambda each: each.name)
def test_a_changed_value_changes_what_is_rendered(chart: Chart, objects: list[Json], value: Value) -> None:
    premise = PREMISES.get(value.name)
    before = chart.objects(premise) if premise else objects
    assert before != chart.objects(merged(premise or {}, nested(value.path, another(value))))


def test_the_registry_of_the_credentials_may_be_said_and_is_else_the_images(chart: Chart) -> None:
    premise = PREMISES["imageCredentials.registry"]
    said = merged(premise, {"imageCredentials": {"registry": "registry.example"}})
    assert chart.objects(premise) == chart.objects(said)


def refusal(chart: Chart, wrong: list[Json]) -> str:
    """What helm says to all of it at once."""
    with pytest.raises(Refused) as refused:
        chart.objects(reduce(merged, wrong))
    return str(refused.value)


@pytest.fixture(scope="module")
def wrong_types(chart: Chart) -> str:
    """What is said to a list of lists in every value's place."""
    return refusal(chart, [nested(each.path, [["nonsense"]]) for each in LEAVES])


@pytest.mark.parametrize("value", LEAVES, ids=lambda each: each.name)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(wrong_types: str, value: Value) -> None:
    assert re.search(rf"^ *- at '/{'/'.join(value.path)}(/[0-9]+)?': ", wrong_types, re.MULTILINE)


@pytest.fixture(scope="module")
def unknown_keys(chart: Chart) -> str:
    """What is said to a misspelt key in every section."""
    return refusal(chart, [nested((*each, "replicsa"), 3) for each in SECTIONS])


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: ".".join(each) or "top")
def test_an_unknown_key_is_refused_by_its_name(unknown_keys: str, section: tuple[str, ...]) -> None:
    place = "".join(f"/{part}" for part in section)
    assert f"at '{place}': additional properties 'replicsa' not allowed" in unknown_keys


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("controller.replicas", 0),
        ("controller.reserveAfter", -1),
        ("agent.driverReadLimit", 0.5),
        ("agent.maxUnavailable", "110%"),
        ("serving.port", 443),
        ("serving.port", 70000),
        ("serving.address", "127.0.0.1"),
        ("image.digest", "sha256:abc"),
        ("image.repository", "registry.example/cdmo:1.0"),
        ("imageCredentials.registry", "https://registry.example"),
        ("kubernetesApi.host", "https://10.0.0.1"),
        ("controller.logLevel", "loud"),
        ("controller.resources", {"limits": {"memory": "much"}}),
        ("controller.podLabels", {"number": 1}),
        ("agent.env", [{"name": "NAME"}]),
        ("imagePullSecrets", [{"name": "login"}]),
        ("agent.kubeletRoot", "var/lib/kubelet"),
        ("agent.kubeletRoot", "/var/lib/../kubelet"),
        ("agent.kubeletRoot", "/var/lib/kubelet/"),
        ("uninstall.waitSeconds", 1.5),
        ("uninstall.waitSeconds", 86400),
        ("doctor.configMapNamespaces", ["Gpu Operator"]),
        ("doctor.configMapNamespaces", ["gpu-operator", "gpu-operator"]),
        ("imagePullSecrets", ["login", "login"]),
        ("controller.podLabels", {"team": "a b"}),
        ("controller.podLabels", {"team": "a" * 64}),
        ("controller.podLabels", {"-team": "a"}),
        ("agent.nodeSelector", {"example.com/pool/x": "a"}),
        ("agent.podAnnotations", {"my annotation": "a"}),
    ],
)
def test_what_could_not_work_is_refused(chart: Chart, name: str, value: Any) -> None:
    path = name.split(".")
    with pytest.raises(Refused, match=f"at '/{'/'.join(path)}"):
        chart.objects(nested(path, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("controller.podLabels", {"example.com/team_1.a": "A-b_c.9", "empty": ""}),
        ("agent.nodeSelector", {"node-role.kubernetes.io/gpu": ""}),
        ("agent.podAnnotations", {"example.com/note": "any words: {}"}),
    ],
)
def test_what_the_api_server_takes_is_taken(chart: Chart, name: str, value: Any) -> None:
    assert chart.objects(nested(name.split("."), value))


def test_as_part_of_another_chart_it_takes_helms_own_key(chart: Chart, objects: list[Json]) -> None:
    assert chart.objects({"global": {"imageRegistry": "registry.example"}}) == objects


def test_fractions_of_seconds_reach_the_program_as_they_are(chart: Chart) -> None:
    text = chart.text({"controller": {"reserveAfter": 0.25}, "agent": {"driverReadLimit": 1234567.5}})
    assert "--reserve-after=0.25" in text
    (limit,) = (line.partition("=")[2].strip('"') for line in text.splitlines() if "--driver-read-limit" in line)
    assert float(limit) == 1234567.5
