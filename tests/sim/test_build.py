"""Building the library and its card tables."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cdmo_harness.driver import SimulatedDriver, build_library
from cdmo_harness.nvml_build import SOURCES, content_hash

from tests.sim import calls


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """sim/nvml/generate_cards.py."""
    found = importlib.util.spec_from_file_location("generate_cards", SOURCES / "generate_cards.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_library_is_built_once_for_its_content(library: Path) -> None:
    built = library.stat().st_mtime_ns
    assert build_library(library.parent.parent) == library
    assert library.stat().st_mtime_ns == built


def test_another_source_is_another_build(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("int one;")
    first = content_hash(tmp_path, ("cc",))
    source.write_text("int two;")
    assert content_hash(tmp_path, ("cc",)) != first
    assert content_hash(tmp_path, ("clang",)) != content_hash(tmp_path, ("cc",))


def test_every_card_in_the_repository_can_be_simulated(driver: SimulatedDriver) -> None:
    tables = [json.loads(path.read_text()) for path in (SOURCES / "cards").glob("*.json")]
    assert sorted(each["key"] for each in tables) == sorted(driver.cards())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"starts": [0, 8]}, "do not lie on 8 slots"),
        ({"starts": [4, 0]}, "do not lie on 8 slots"),
        ({"maxInstances": 9}, "need more than all compute slices"),
        ({"decoders": 4}, "need more decoders than the card's 7"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(
    generator: ModuleType, change: dict[str, Any], sentence: str
) -> None:
    card = calls.card_table(calls.H100)
    assert generator.contradictions(card) == []
    next(each for each in card["profiles"] if each["name"] == "3g.40gb").update(change)
    assert any(sentence in each for each in generator.contradictions(card))
