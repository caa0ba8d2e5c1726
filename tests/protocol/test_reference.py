"""The committed page says what the model finds now, and where in the code each guard is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocol.rules import WHERE, Guard
from tools.generate_protocol import TARGET, page

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)  # run alone it explores everything; after the other tests of this folder it takes no time
def test_the_committed_page_is_what_the_model_finds() -> None:
    assert TARGET.read_text() == page(), "python -m tools.generate_protocol --write"


@pytest.mark.parametrize("guard", Guard, ids=lambda guard: guard.name)
def test_a_guard_is_where_the_page_says(guard: Guard) -> None:
    path, _, name = WHERE[guard].partition(": ")
    assert name in (ROOT / path).read_text(), f"{path} has no {name}"
