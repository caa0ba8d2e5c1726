"""Every contract of .importlinter can fail: each violation is put into a copy of the product and must be found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Violation:
    """A line that may not be in a module, and the contract that says so."""

    contract: str
    module: str
    line: str


VIOLATIONS = [
    Violation("layers", "model/gpu.py", "import cdmo.planner"),
    Violation("layers", "controller/loop.py", "import cdmo.agent.steps"),
    Violation("layers", "a_package_without_rank.py", "X = 1"),
    Violation("pure", "model/gpu.py", "import time"),
    Violation("pure", "agent/guard.py", "import cdmo.runtime.clock"),
    Violation("kubernetes-client", "agent/loop.py", "import lightkube.core"),
    Violation("nvml", "hardware/port.py", "import pynvml"),
    Violation("grpc", "agent/apply.py", "import grpc.aio"),
    Violation("yaml", "kube/objects.py", "import yaml"),
    Violation("terminal", "runtime/run.py", "import typer"),
    Violation("plot", "cli/simulate.py", "import matplotlib.figure"),
    Violation("product", "controller/loop.py", "import cdmo_harness.pki"),
]


def check(copy: Path, contract: str) -> subprocess.CompletedProcess[str]:
    """Check one contract on a copy of the product."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--no-logo", "--contract", contract],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The product's source and its contracts, free to be spoilt."""
    shutil.copytree(REPOSITORY / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / ".importlinter", tmp_path)
    return tmp_path


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda each: f"{each.contract}-{each.module}")
def test_a_violation_breaks_its_contract(copy: Path, violation: Violation) -> None:
    with (copy / "src" / "cdmo" / violation.module).open("a") as module:
        module.write(f"\n{violation.line}\n")
    answer = check(copy, violation.contract)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "0 kept, 1 broken" in answer.stdout, answer.stdout + answer.stderr


@pytest.mark.parametrize("contract", sorted({each.contract for each in VIOLATIONS}))
def test_the_product_keeps_its_contracts(copy: Path, contract: str) -> None:
    answer = check(copy, contract)
    assert "1 kept, 0 broken" in answer.stdout, answer.stdout + answer.stderr
