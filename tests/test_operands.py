from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from secateurs.operands import holders, plain
from secateurs.types import SecateursError


def held(network: nn.Module) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    found = holders(network, [name for name, _ in network.named_parameters() if name.endswith("weight")])
    return {name.removesuffix(".weight"): place for name, place in found.items()}


def modules(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, (module, _) in held(network).items()}


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x * 2, self.weight)


class Sibling(nn.Module):
    def __init__(self, own: bool) -> None:
        super().__init__()
        self.linear, self.own = nn.Linear(2, 2, bias=False), own

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.linear.weight.T) + (self.linear(x) if self.own else 0)


def test_weights_that_meet_their_modules_input_alone_are_plain() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert plain(held(network), partial(network, torch.randn(2, 5, 3))) == modules(network)


def test_an_input_that_is_laid_out_anew_is_the_modules_input_still() -> None:
    network = nn.Linear(4, 2, bias=False)
    assert plain(held(network), lambda: network(torch.randn(3, 4, 5).transpose(1, 2))) == modules(network)


def test_a_small_weight_that_meets_something_else_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Linear(8, 2), Scaled(2, 2))
    assert list(plain(held(network), partial(network, torch.randn(3, 8)))) == ["0"]
    assert "1 stays dense" in caplog.text


@pytest.mark.parametrize("network", [nn.Sequential(Scaled(2, 2)), Sibling(True), Sibling(False)])
def test_weights_that_meet_something_else_are_refused_by_name(network: nn.Module) -> None:
    with pytest.raises(SecateursError, match="does not multiply what enters its module"):
        plain(held(network), partial(network, torch.randn(3, 2)))


class Stack(nn.Module):
    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.w, self.product = nn.Parameter(torch.ones(3, 4, 2)), product

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.w)


def one_by_one(x: Tensor, w: Tensor) -> Tensor:
    return torch.stack([x[i] @ w[i].T for i in range(3)])


def test_stacks_are_plain_where_each_matrix_has_one_product() -> None:
    x = torch.randn(3, 5, 2)
    for product in (lambda x, w: x @ w.mT, one_by_one):
        network = Stack(product)
        assert plain({"w": (network, network.w)}, partial(network, x)) == {"w": network}
    twice = Stack(one_by_one)
    network = Stack(lambda x, w: one_by_one(one_by_one(x, w)[..., :2], w))
    for forward in (partial(network, x), lambda: twice(twice(x)[..., :2])):
        held = network if isinstance(forward, partial) else twice
        with pytest.raises(SecateursError, match="w does not multiply"):
            plain({"w": (held, held.w)}, forward)
    network = Stack(lambda x, w: x * w.sum())
    with pytest.raises(SecateursError, match="w does not multiply"):
        plain({"w": (network, network.w)}, partial(network, x))
