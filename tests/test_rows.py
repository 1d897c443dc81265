from __future__ import annotations

import torch

from secateurs.rows import reads_units, rows_of, side_by_side
from secateurs.types import Facts, Group, Member, Rows


def test_like_modules_are_rows_of_one_matrix_and_one_that_saw_nothing_saw_zeros() -> None:
    first, second = torch.randn(1, 6), torch.randn(1, 6)
    whole = side_by_side([Rows(first, activation_norm=first.abs()), Rows(second)])
    assert torch.equal(whole.weight, torch.cat([first, second]))
    assert whole.activation_norm is not None
    assert torch.equal(whole.activation_norm, torch.cat([first.abs(), torch.zeros(1, 6)])) and whole.gradient is None


def test_units_of_a_dim_are_seen_at_once_and_layers_one_by_one() -> None:
    tensors = {"router": torch.randn(2, 3), "0.w": torch.randn(4, 3), "1.w": torch.randn(4, 3)}
    modules = tuple(Member(f"{i}.w", (), unit=i) for i in range(2))
    experts = Group("experts", 2, (Member("router", (0,)), *modules), 2, ("experts",))
    [rows] = rows_of(experts, tensors, Facts(loss_increase={"experts": torch.tensor([1.0, 2.0])}))
    assert [tuple(it.weight.shape) for it in rows] == [(2, 3), (2, 12)]
    assert torch.equal(rows[1].weight[1], tensors["1.w"].flatten())
    assert all(it.loss_increase is not None and it.loss_increase.tolist() == [[1.0], [2.0]] for it in rows)
    layers = Group("layers", 2, modules, 2)
    assert [[tuple(it.weight.shape) for it in some] for some in rows_of(layers, tensors, Facts())] == [[(1, 12)]] * 2
    assert not reads_units(layers, modules[0]) and not reads_units(experts, modules[0])
    assert reads_units(experts, experts.members[0])
