from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from secateurs.multiplied import Multiplied
from secateurs.sequential import settle_
from secateurs.types import SecateursError


class TwoFromOne(nn.Module):
    """Two layers that multiply the same, a third that multiplies what they give; and the way a batch goes."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)  # registered first, run last
        self.one, self.other = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.one(x) * self.other(x))


def test_each_weight_meets_what_the_settled_ones_before_it_give() -> None:
    torch.manual_seed(0)
    network, batches = TwoFromOne(), [torch.randn(5, 3), torch.randn(2, 3)]
    outputs: list[Tensor] = []
    order: list[str] = []
    seen: dict[str, Multiplied] = {}

    def settle(name: str, multiplied: Multiplied) -> None:
        order.append(name)
        seen[name] = multiplied
        network.get_submodule(name).weight.data.mul_(0.5)  # type: ignore[union-attr,operator]

    forwards: list[Callable[[], None]] = [partial(lambda x: outputs.append(network(x)), x) for x in batches]
    settle_(dict(network.named_children()), forwards, settle, gram=True)

    assert order == ["one", "other", "last"]
    assert seen["one"] is seen["other"] and seen["one"].tokens == 7
    inner = torch.cat([network.one(x) * network.other(x) for x in batches])  # as settled
    torch.testing.assert_close(seen["last"].gram.matrix, (inner.T @ inner).detach())
    for out, x in zip(outputs, batches, strict=True):
        torch.testing.assert_close(out, network(x).detach())


def test_a_module_that_some_batches_skip_is_settled_on_the_others() -> None:
    network = nn.ModuleDict({"often": nn.Linear(2, 2), "seldom": nn.Linear(2, 2), "last": nn.Linear(2, 2)})

    def forward(x: Tensor, seldom: bool) -> None:
        x = network["often"](x)
        network["last"](network["seldom"](x) if seldom else x)

    seen: dict[str, int] = {}
    forwards = [partial(forward, torch.randn(3, 2), seldom) for seldom in (False, True, False)]
    settle_(dict(network.named_children()), forwards, lambda name, multiplied: seen.update({name: multiplied.tokens}))
    assert seen == {"often": 9, "seldom": 3, "last": 9}


def test_forwards_stop_when_all_is_settled() -> None:
    network, done = nn.Linear(2, 2), []

    def forward() -> None:
        network(torch.randn(1, 2))
        done.append(True)

    settle_({"": network}, [forward] * 2, lambda name, multiplied: None, to_the_end=False)
    assert not done
    settle_({"": network}, [forward] * 2, lambda name, multiplied: None)
    assert len(done) == 2


def test_an_error_on_the_way_is_the_callers_and_no_hook_is_left() -> None:
    network = nn.Linear(2, 2)

    def settle(name: str, multiplied: Multiplied) -> None:
        raise SecateursError("no")

    with pytest.raises(SecateursError, match="no"):
        settle_({"": network}, [partial(network, torch.ones(1, 2))] * 3, settle)
    assert not network._forward_pre_hooks
