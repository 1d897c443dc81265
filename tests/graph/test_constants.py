from __future__ import annotations

import torch

from secateurs.graph.constants import Constants


def test_numbers_and_a_single_one_are_noted_and_one_value_everywhere_is_not() -> None:
    constants = Constants()
    numbers, single, filled = torch.arange(3), torch.full((), 0.5), torch.ones(3)
    constants.note(numbers, True)
    constants.note(single, False)
    constants.note(filled, False)
    assert (constants.of(numbers), constants.of(single), constants.of(filled)) == (True, False, None)


def test_what_shares_memory_with_something_written_is_lost() -> None:
    constants = Constants()
    numbers, others = torch.arange(4), torch.arange(4)
    constants.note(numbers, True)
    constants.note(others, True)
    constants.written(numbers[1:])
    assert constants.of(numbers) is None and constants.of(others) is True
