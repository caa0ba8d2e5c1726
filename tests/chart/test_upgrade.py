"""From the chart that was committed before to this one: nothing that cannot be changed is to change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.binaries import Binaries

from tests.chart import earlier
from tests.chart.earlier import earlier_chart
from tests.chart.helm import CHART, Helm
from tests.chart.rendering import Chart, Json, container, identity, of_kind, one
from tests.chart.site import labelled_site

# What the API server refuses to change, or what others refer to by its name.
UNCHANGEABLE: dict[str, tuple[tuple[str, ...], ...]] = {
    "Deployment": (("spec", "selector"),),
    "DaemonSet": (("spec", "selector"),),
    "ServiceAccount": (),
    "Service": (("spec", "clusterIP"),),
    "Secret": (("type",),),
    "ClusterRoleBinding": (("roleRef",),),
    "RoleBinding": (("roleRef",),),
    "CustomResourceDefinition": (("spec", "scope"), ("spec", "group"), ("spec", "names")),
}
# May go with an upgrade. The others would take pods, tokens or MigNodes along.
MAY_GO = frozenset({"Service", "Secret", "ClusterRoleBinding", "RoleBinding"})
# The page's override file.
PAGE = {"imageCredentials": {"password": "a-token"}}


def at(item: Json, path: tuple[str, ...]) -> Any:
    """The value at a place; None where there is none."""
    found: Any = item
    for part in path:
        found = (found or {}).get(part)
    return found


def obstacles(old: list[Json], new: list[Json]) -> Iterator[str]:
    """What would stop or break an upgrade."""
    there = {identity(each): each for each in new}
    for each in old:
        kind, _, name = identity(each)
        if kind not in UNCHANGEABLE:
            continue
        now = there.get(identity(each))
        if now is None:
            if kind not in MAY_GO:
                yield f"{kind} {name} is gone"
            continue
        for path in UNCHANGEABLE[kind]:
            if at(each, path) != at(now, path):
                yield f"{'.'.join(path)} of {kind} {name} is another one"
    yield from _versions(old, new)


def _versions(old: list[Json], new: list[Json]) -> Iterator[str]:
    for before in of_kind(old, "CustomResourceDefinition"):
        for after in of_kind(new, "CustomResourceDefinition"):
            served = {each["name"] for each in after["spec"]["versions"]}
            gone = {each["name"] for each in before["spec"]["versions"] if each["storage"]} - served
            yield from (f"version {each} of the CRD, in which MigNodes are stored, is gone" for each in gone)


@pytest.fixture(scope="module")
def before(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart that was committed before."""
    return replace(chart, folder=earlier_chart(tmp_path_factory.mktemp("earlier")))


@pytest.mark.parametrize("values", [{}, PAGE], ids=["defaults", "the page's"])
def test_nothing_is_in_the_way_of_an_upgrade(chart: Chart, before: Chart, values: Json) -> None:
    assert list(obstacles(before.objects(values), chart.objects(values))) == []


def drop(kind: str, name: str) -> Callable[[list[Json]], None]:
    return lambda objects: objects.remove(one(objects, kind, name))


def select(kind: str, name: str) -> Callable[[list[Json]], None]:
    return lambda objects: one(objects, kind, name)["spec"]["selector"]["matchLabels"].update({"app": "cdmo"})


def point(kind: str, name: str) -> Callable[[list[Json]], None]:
    return lambda objects: one(objects, kind, name)["roleRef"].update({"name": "other"})


def rename_version(objects: list[Json]) -> None:
    (crd,) = of_kind(objects, "CustomResourceDefinition")
    crd["spec"]["versions"][0]["name"] = "v1beta1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (select("Deployment", "cdmo-controller"), "spec.selector of Deployment cdmo-controller is another one"),
        (select("DaemonSet", "cdmo-agent"), "spec.selector of DaemonSet cdmo-agent is another one"),
        (drop("DaemonSet", "cdmo-agent"), "DaemonSet cdmo-agent is gone"),
        (drop("ServiceAccount", "cdmo-agent"), "ServiceAccount cdmo-agent is gone"),
        (
            drop("CustomResourceDefinition", "mignodes.cdmo.clear.ml"),
            "CustomResourceDefinition mignodes.cdmo.clear.ml is gone",
        ),
        (point("ClusterRoleBinding", "cdmo-agent"), "roleRef of ClusterRoleBinding cdmo-agent is another one"),
        (rename_version, "version v1alpha1 of the CRD, in which MigNodes are stored, is gone"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_change_that_cannot_be_made_is_found(
    objects: list[Json], change: Callable[[list[Json]], None], said: str
) -> None:
    new = copy.deepcopy(objects)
    change(new)
    assert list(obstacles(objects, new)) == [said]


def test_a_job_never_keeps_its_name_unless_helm_deletes_it_before(chart: Chart, objects: list[Json]) -> None:
    """Its pod template cannot be changed, and an image or a value changes it."""
    for each in of_kind(objects, "Job"):
        annotations = each["metadata"].get("annotations", {})
        hook = "before-hook-creation" in annotations.get("helm.sh/hook-delete-policy", "")
        assert hook or each["metadata"]["name"].endswith("-1"), identity(each)


def test_the_chart_before_is_another_one_or_there_is_none(tmp_path: Path) -> None:
    found = earlier_chart(tmp_path)
    assert (found / "Chart.yaml").exists()
    if found != CHART:
        names = {path.relative_to(found) for path in found.rglob("*") if path.is_file()}
        texts = {path.relative_to(CHART): path.read_text() for path in CHART.rglob("*") if path.is_file()}
        assert {name: (found / name).read_text() for name in names} != texts


def test_without_history_the_chart_is_compared_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "REPOSITORY", tmp_path)  # no checkout
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert earlier_chart(tmp_path / "unused") == CHART


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_a_release_of_the_chart_before_is_upgraded_in_place(
    binaries: Binaries, helm: Helm, chart: Chart, before: Chart, tmp_path: Path
) -> None:
    lasting = (
        ("deployment", "-n", "cdmo", "cdmo-controller"),
        ("daemonset", "-n", "cdmo", "cdmo-agent"),
        ("serviceaccount", "-n", "cdmo", "cdmo-agent"),
        ("crd", "mignodes.cdmo.clear.ml"),
        ("mignode", "gpu-1"),
    )
    with labelled_site(binaries, helm, tmp_path) as site:
        site.install(chart=before.folder)
        site.create(
            {"apiVersion": "cdmo.clear.ml/v1alpha1", "kind": "MigNode", "metadata": {"name": "gpu-1"}, "spec": {}}
        )
        was = [site.get(*each)["metadata"]["uid"] for each in lasting]
        site.install()
        assert [site.get(*each)["metadata"]["uid"] for each in lasting] == was
        answer = site.helm.run("status", "-n", "cdmo", "cdmo")
        assert "STATUS: deployed" in answer.output and "REVISION: 2" in answer.output
        (agent,) = site.get("daemonset", "-n", "cdmo", "cdmo-agent")["spec"]["template"]["spec"]["containers"]
        assert agent["args"] == container(chart.objects(PAGE), "agent")["args"]
