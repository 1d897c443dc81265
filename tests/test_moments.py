from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateurs.moments import Moments


def variance_of(model: nn.Module, *batches: Tensor) -> Tensor:
    moments = Moments(model, 0, 1, 2)
    with torch.no_grad(), moments:
        for batch in batches:
            model(batch)
    found = moments.variance(model.get_parameter("weight"))
    assert found is not None
    return found


def test_variance_of_the_inputs_of_a_linear_layer_over_all_batches() -> None:
    model, x, y = nn.Linear(5, 4), torch.randn(2, 7, 5), 3 + torch.randn(6, 5)
    expected = torch.cat([x.flatten(0, 1), y]).var(dim=0, correction=0)
    assert torch.allclose(variance_of(model, x, y).expand(4, 5), expected.expand(4, 5), rtol=1e-4)


def test_variance_about_a_large_mean_is_no_rounding_error() -> None:
    x = torch.randn(50, 3) * 0.01 + 1000
    expected = x.double().var(dim=0, correction=0).float()
    assert torch.allclose(variance_of(nn.Linear(3, 2), x).expand(2, 3), expected.expand(2, 3), rtol=1e-3)


@pytest.mark.parametrize("groups", [1, 2])
def test_variance_at_every_tap_of_a_convolution_is_of_what_is_there(groups: int) -> None:
    conv, x = nn.Conv2d(2, 4, 3, padding=1, groups=groups, bias=False), torch.randn(3, 2, 5, 6) + 2
    found = variance_of(conv, x).expand(conv.weight.shape)
    assert torch.allclose(found[0, 0, 1, 1], x[:, 0].var(correction=0), rtol=1e-4)
    # The first tap never meets the last row or column; where it meets padding it meets nothing.
    assert torch.allclose(found[3, -1, 0, 0], x[:, 1, :-1, :-1].var(correction=0), rtol=1e-4)


def test_tokens_that_are_sent_to_no_expert_are_zeros_and_do_not_count() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.bmm(x, self.weight)

    x = torch.randn(3, 6, 8)
    x[0, 2:], x[1], x[2, :3] = 0, 0, 0
    expected = torch.stack([x[0, :2].var(dim=0, correction=0), torch.zeros(8), x[2, 3:].var(dim=0, correction=0)])
    assert torch.allclose(variance_of(Experts(), x).expand(3, 8, 4), expected[:, :, None].expand(3, 8, 4), atol=1e-5)


def test_an_expert_that_nobody_asked_has_no_variance() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4, 8))

        def forward(self, x: Tensor) -> Tensor:
            ends = torch.tensor([2, 2, 5], dtype=torch.int32)
            return F.grouped_mm(x, self.weight.mT, offs=ends)[:5]

    x = torch.randn(6, 8)
    expected = torch.stack([x[:2].var(dim=0, correction=0), torch.zeros(8), x[2:5].var(dim=0, correction=0)])
    assert torch.allclose(variance_of(Experts(), x).expand(3, 4, 8), expected[:, None].expand(3, 4, 8), atol=1e-5)


def test_what_multiplies_nothing_has_no_moments() -> None:
    model = nn.LayerNorm(3)
    moments = Moments(model, 0, 1, 2)
    with moments:
        model(torch.randn(2, 3))
    assert moments.norm(model.weight) is None
    assert moments.variance(model.weight) is None


def gram_of(model: nn.Module, parameter: nn.Parameter, *batches: Tensor) -> tuple[int, Tensor] | None:
    moments = Moments(model, products=[parameter])
    with torch.no_grad(), moments:
        for batch in batches:
            model(batch)
    found = [(axis, gram.matrix) for axis, gram in moments.grams(parameter).items()]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize("size", [4, 600])  # the second is wider than the stretch that is computed at a time
def test_products_of_the_inputs_of_a_linear_layer_over_all_batches(size: int) -> None:
    model, x, y = nn.Linear(size, 4), torch.randn(2, 7, size), 3 + torch.randn(6, size)
    found = gram_of(model, model.weight, x, y)
    every = torch.cat([x.flatten(0, 1), y]).double()
    assert found is not None and found[0] == 1
    assert torch.allclose(found[1].double(), every.T @ every, rtol=1e-4, atol=1e-3)
    assert torch.equal(found[1], found[1].T)


def test_products_of_the_inputs_of_a_weight_that_lies_the_other_way() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(torch.zeros(3), x, self.weight)

    model, x = Turned(), torch.randn(5, 3)
    found = gram_of(model, model.weight, x)
    assert found is not None and found[0] == 0
    assert torch.allclose(found[1], x.T @ x, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_norms_of_what_a_weight_gives_with_its_bias(bias: bool) -> None:
    model, x, y = nn.Linear(3, 3, bias=bias), torch.randn(2, 7, 3), torch.randn(6, 3)
    moments = Moments(model, outputs=[model.weight])
    with moments:
        loss = model(x).square().sum() + model(y).sum()
        loss.backward()  # the weight multiplies gradients then: not its outputs
    with torch.no_grad():
        given = torch.cat([model(x).flatten(0, 1), model(y)])
    assert torch.allclose(moments.output_norms(model.weight)[0], given.norm(dim=0), atol=1e-5)
    assert moments.output_norms(nn.Parameter(torch.zeros(3, 3))) == {}


def test_norms_of_what_a_weight_on_the_left_gives_and_none_of_a_part_of_it() -> None:
    class Left(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole, self.part = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.whole @ x + self.part[:2].repeat(2, 1) @ x + (x.T @ self.part[:2].T).sum()

    model, x = Left(), torch.randn(3, 5)
    moments = Moments(model, outputs=[model.whole, model.part])
    with torch.no_grad(), moments:
        model(x)
    [(axis, norms)] = moments.output_norms(model.whole).items()
    assert axis == 0 and torch.allclose(norms, (model.whole @ x).norm(dim=1), atol=1e-5)
    assert moments.output_norms(model.part) == {}


def test_no_products_where_a_weight_is_met_in_another_way_too() -> None:
    class Twice(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + (x @ self.weight[:2].T).repeat(1, 2)

    for model in (Twice(3, 4), nn.Conv1d(3, 4, 1)):
        x = torch.randn(6, 3) if isinstance(model, Twice) else torch.randn(2, 3, 6)
        assert gram_of(model, model.weight, x) is None  # type: ignore[arg-type]
    assert gram_of(nn.Identity(), nn.Parameter(torch.ones(2, 2)), torch.ones(2)) is None


def test_a_pass_back_gives_the_products_of_the_gradients_by_the_outputs() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4, bias=False))
    layer, x = model[1], torch.randn(2, 7, 5)
    held: list[Tensor] = []
    layer.register_full_backward_hook(lambda module, into, out: held.append(out[0]))
    moments = Moments(model, products=[layer.weight])
    with moments:
        model(x).square().mean().backward()
    found = moments.grams(layer.weight)
    inputs, gradients = model[0](x).detach().flatten(0, 1), held[0].flatten(0, 1)
    assert found.keys() == {0, 1}
    assert torch.allclose(found[1].matrix, inputs.T @ inputs, atol=1e-5)
    assert torch.allclose(found[0].matrix, gradients.T @ gradients, atol=1e-7)
