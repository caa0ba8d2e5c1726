"""Helm 3.17 makes of the chart what Helm 4 makes of it, and refuses the same."""

from __future__ import annotations

import pytest

from tests.chart.helm import CHART, VARIABLE, Helm
from tests.chart.rendering import Chart, Json, Refused
from tests.chart.settings import all_values
from tests.chart.test_refusals import MISFITS, Misfit


@pytest.mark.timeout(320)  # the first test that asks for it may have to fetch it
def test_it_is_the_oldest_that_the_readme_promises(oldest_helm: Helm) -> None:
    version = oldest_helm.run("version", "--template", "{{ .Version }}").output
    assert version.startswith("v3.17."), f"unset {VARIABLE}"
    assert "Helm 3.17 or newer" in (CHART / "README.md").read_text()


def test_its_linter_finds_nothing(oldest_helm: Helm) -> None:
    answer = oldest_helm.run("lint", "--strict", "--namespace", "cdmo", str(CHART))
    assert answer.status == 0, answer.output


@pytest.mark.parametrize("values", [{}, all_values()], ids=["defaults", "everything"])
def test_it_renders_the_same(chart: Chart, with_oldest: Chart, values: Json) -> None:
    assert with_oldest.objects(values) == chart.objects(values)


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
def test_it_refuses_what_does_not_fit_together(with_oldest: Chart, misfit: Misfit) -> None:
    with pytest.raises(Refused) as refused:
        with_oldest.objects(misfit.values)
    assert misfit.sentence in str(refused.value)


def test_it_refuses_what_the_schema_does_not_allow(with_oldest: Chart) -> None:
    with pytest.raises(Refused) as refused:
        with_oldest.objects({"replicas": 3, "controller": {"replicas": "three"}})
    assert "Additional property replicas is not allowed" in str(refused.value)
    assert "controller.replicas: Invalid type" in str(refused.value)


def test_it_refuses_a_cluster_before_1_30(with_oldest: Chart) -> None:
    with pytest.raises(Refused, match=r"requires kubeVersion: >=1\.30\.0-0"):
        with_oldest.objects({}, "--kube-version", "1.29.14")
