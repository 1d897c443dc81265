from __future__ import annotations

import torch

from secateurs.testing.example import example_model, example_task


def test_the_example_can_be_learnt() -> None:
    model, task = example_model(), example_task()
    before = task.quality(model, task).value
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(6):
        for batch in task.splits["train"]:
            optimiser.zero_grad()
            task.loss(model, batch).backward()
            optimiser.step()
    after = task.quality(model.eval(), task).value
    assert before < 0.7 and after > 0.95


def test_the_example_is_always_the_same_and_leaves_chance_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = example_model().state_dict(), example_model().state_dict()
    example_task()
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
