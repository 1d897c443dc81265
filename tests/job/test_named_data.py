"""Plain options become a task's data, or there is one line that says why not."""

from __future__ import annotations

from typing import Any

import pytest

from secateurs.job.named_data import language_data, text_data
from secateurs.types import SecateursError


def test_options_become_fields() -> None:
    assert language_data({"train": "a.txt", "text": ("words",), "length": 8}).text == "words"
    assert language_data({"train": "a.txt", "text": "words"}).length == 512
    assert text_data("text", {"train": "a.csv", "evaluation": "b.csv", "max_length": 9}).max_length == 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs --data"),
        ({"train": "a", "label": "x"}, "task language_modelling has no 'label'; it has: train, evaluation"),
        ({"train": "a", "text": ("x", "y")}, "reads one column of text, got 2"),
    ],
)
def test_a_language_task_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SecateursError, match=said):
        language_data(options)


def test_a_task_of_texts_that_cannot_be() -> None:
    with pytest.raises(SecateursError, match="task text has no 'stride'"):
        text_data("text", {"train": "a", "evaluation": "b", "stride": 3})
    with pytest.raises(SecateursError, match=r"no task 'what'; give .*language_modelling"):
        text_data("what", {})
