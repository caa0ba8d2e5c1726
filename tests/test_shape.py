"""The tests mirror the product: a module's tests are found without searching, and no file is too long to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_file_size import LIMIT

ROOT = Path(__file__).parents[1]
PRODUCT = ROOT / "src" / "cdmo"

# Modules whose tests are elsewhere, and where; a stale entry fails below.
ELSEWHERE = {
    "agent/main": "wiring: tests/end_to_end run the process",
    "controller/main": "wiring: tests/end_to_end run the process",
    "api/v1alpha1": "types: tests/api/test_schema.py and test_convert.py",
    "cli/_options": "options of the verbs: tests/cli/test_app.py",
    "cli/agent": "the verb: tests/cli/test_app.py",
    "cli/controller": "the verb: tests/cli/test_app.py",
    "cli/crd": "the verb: tests/cli/test_app.py",
    "cli/discover": "the verb: tests/cli/test_app.py and tests/hardware/test_discovery.py",
    "handover/port": "protocols: its adapter's tests",
    "hardware/port": "protocols: tests/contract hold both sides to them",
    "kube/client": "wiring of kube's parts: tests/kube/test_contract_*.py and tests/end_to_end use it",
    "kube/port": "protocols: tests/kube/test_contract_*.py hold the adapters to them",
    "kubelet/guardian_program": "the process at the other end of kubelet/guardian: tests/kubelet/test_guardian.py",
    "kubelet/port": "protocols: their adapters' tests",
    "model/gpu": "values alone",
    "model/plan": "values alone",
    "model/policy": "values alone",
    "model/reasons": "values alone",
    "model/relations": "values alone",
    "planner/attempt": "values alone",
    "model/snapshot": "values alone",
    "planner/reasons": "sentences: tests/planner/test_waiting.py",
    "version": "one value: tests/tools/test_check_changelog.py and tests/cli/test_app.py",
}


def stem(module: str) -> str:
    """tests/<package>/test_<module>, without the underscore of a private module."""
    package, _, name = module.rpartition("/")
    return f"{package}/test_{name.removeprefix('_')}".lstrip("/")


def modules() -> list[str]:
    """Every module that could have tests of its own, as package/name."""
    found = []
    for path in sorted(PRODUCT.rglob("*.py")):
        inside = path.relative_to(PRODUCT)
        if "_pb" not in inside.parts and path.name not in ("__init__.py", "__main__.py"):
            found.append(str(inside.with_suffix("")))
    return found


def mirrors(module: str) -> list[Path]:
    """The test files that bear the module's name: test_loop.py and test_loop_recovery.py for loop.py."""
    wanted = ROOT / "tests" / stem(module)
    return [path for path in wanted.parent.glob(f"{wanted.name}*.py") if path.stem.startswith(wanted.name)]


@pytest.mark.parametrize("module", [each for each in modules() if each not in ELSEWHERE])
def test_every_module_has_tests_that_bear_its_name(module: str) -> None:
    assert mirrors(module), f"write tests/{stem(module)}.py"


@pytest.mark.parametrize("module", ELSEWHERE)
def test_no_module_is_excused_that_is_gone_or_has_tests_by_now(module: str) -> None:
    assert module in modules()
    assert not mirrors(module)


@pytest.mark.parametrize("folder", ["src", "harness/src", "tests"])
def test_no_file_is_over_the_limit(folder: str) -> None:
    sources = [path for path in (ROOT / folder).rglob("*.py") if "_pb" not in path.parts]
    assert sources
    over = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert {path: lines for path, lines in over.items() if lines > LIMIT} == {}
    assert LIMIT == 400
