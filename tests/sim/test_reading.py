"""The simulated library answers what changes nothing as the real one does."""

from __future__ import annotations

import pytest

from tests.nvml_reading import QUESTIONS, Question, answer
from tests.sim import calls


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: each.about)
def test_a_gpu_with_mig_off_answers_as_a_real_one(nvml: object, question: Question) -> None:
    assert answer(question, calls.gpu()) == (question.code, question.value)
