"""The limit on the length of a source file."""

from __future__ import annotations

from pathlib import Path

from tests.tools.checkout import Checkout
from tools.check_file_size import LIMIT, too_long


def test_a_file_at_the_limit_passes_and_one_line_more_does_not(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    at_limit = checkout.write("fits.py", "x = 1\n" * LIMIT)
    over = checkout.write("over.c", "int x;\n" * (LIMIT + 1))
    assert too_long([at_limit, over]) == [(over, LIMIT + 1)]


def test_generated_code_and_data_may_be_long(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    generated = checkout.write("src/_pb/made_pb2.py", "x = 1\n" * (LIMIT + 1))
    data = checkout.write("cards/h100.json", "1\n" * (LIMIT + 1))
    assert too_long([generated, data]) == []
