"""The tables that the wheel carries are those of the driver simulator, and of the drivers themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cdmo.simulation.cards import CARDS
from cdmo.simulation.catalogue import model_of
from tests.builders import card

ROOT = Path(__file__).parents[2]


def test_the_committed_module_is_what_the_generator_writes() -> None:
    command = [sys.executable, "-m", "tools.generate_cards", "--check"]
    assert subprocess.run(command, check=False, capture_output=True, text=True).returncode == 0


@pytest.mark.parametrize("name", ["h100", "a30", "rtx_pro_6000"])
def test_a_table_equals_the_one_that_a_driver_reported(name: str) -> None:
    reported = card(name)
    assert model_of(reported.product) == reported


def test_every_card_with_mig_is_there_once() -> None:
    tables = [json.loads(path.read_text()) for path in (ROOT / "sim" / "nvml" / "cards").glob("*.json")]
    assert sorted(each.product for each in CARDS) == sorted(each["product"] for each in tables if each["profiles"])
