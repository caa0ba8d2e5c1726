"""The ClearML agent, installed once into the harness' cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cdmo_harness.binaries import cache_root
from cdmo_harness.build_progress import show_progress
from cdmo_harness.clearml.agent import ClearmlAgent
from rich.console import Console

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "01-clearml-queues" / "values.yaml"


@pytest.fixture(scope="session")
def agent() -> ClearmlAgent:
    """clearml-agent, ready to run."""
    with show_progress(Console(stderr=True)) as progress:
        return ClearmlAgent.ready(cache_root(os.environ), environment=os.environ, progress=progress)


@pytest.fixture(scope="session")
def example() -> Path:
    """The values file of ClearML's guide."""
    return EXAMPLE
