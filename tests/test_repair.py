"""Repairs set sizes where they are held, and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from secateurs.repair import Repair, apply_repairs_, copied, skip_
from secateurs.types import Argument, SecateursError, Skip


class Config:
    def __init__(self) -> None:
        self.heads = 4
        self.sizes = [1, 2]


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.heads = config.heads
        self.shape = (4, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.layers = nn.ModuleList([Attention(self.config), Attention(self.config)])
        self.norm = nn.LayerNorm(8)


def test_plain_attribute_of_one_module() -> None:
    net = Net()
    apply_repairs_(net, [Repair("layers.0", "heads", 3)])
    assert [layer.heads for layer in net.layers] == [3, 4]


def test_dotted_attribute_leaves_siblings_that_share_the_object() -> None:
    net = Net()
    apply_repairs_(net, [Repair("layers.1", "config.heads", 2), Repair("layers.1", "config.sizes", (7, 9))])
    assert net.layers[1].config.heads == 2
    assert net.layers[1].config.sizes == [7, 9]
    assert net.config.heads == net.layers[0].config.heads == 4
    assert net.config.sizes == [1, 2], "a list inside the shared object was written through"


def test_containers_keep_their_class() -> None:
    net = Net()
    net.norm.normalized_shape = torch.Size([8])
    net.layers[0].sizes = [4, 4]
    apply_repairs_(
        net,
        [
            Repair("norm", "normalized_shape", (5,)),
            Repair("layers.0", "shape", (2, 8)),
            Repair("layers.0", "sizes", (1, 1)),
        ],
    )
    assert net.norm.normalized_shape == torch.Size([5]) and isinstance(net.norm.normalized_shape, torch.Size)
    assert net.layers[0].shape == (2, 8) and isinstance(net.layers[0].shape, tuple)
    assert net.layers[0].sizes == [1, 1] and isinstance(net.layers[0].sizes, list)


def test_root_and_path_through_a_module() -> None:
    net = Net()
    layers = net.layers
    apply_repairs_(net, [Repair("", "config.heads", 1), Repair("", "norm.eps", 1)])
    assert net.config.heads == 1 and net.layers is layers and net.norm.eps == 1
    assert net.layers[0].config.heads == 4


@pytest.mark.parametrize("repair", [Repair("nowhere", "heads", 1), Repair("layers.0", "config.nothing", 1)])
def test_what_is_not_there_is_named(repair: Repair) -> None:
    with pytest.raises(SecateursError, match=repair.attribute):
        apply_repairs_(Net(), [repair])


def test_a_real_transformers_config_is_copied() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=8, vocab_size=32
    )
    model = transformers.BertModel(config)
    name = "encoder.layer.0.attention.self"
    apply_repairs_(model, [Repair(name, "config.num_attention_heads", 2), Repair(name, "num_attention_heads", 2)])
    assert model.get_submodule(name).config.num_attention_heads == 2
    assert model.config.num_attention_heads == 4
    assert model.get_submodule("encoder.layer.1.attention.self").config.num_attention_heads == 4


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_a_network_that_holds_what_it_computed_is_copied() -> None:
    net = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    x = torch.randn(2, 4)
    net(x).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net)
    twin = copied(net)
    assert torch.equal(twin(x), net(x))
    assert {id(p) for p in twin.parameters()}.isdisjoint(id(p) for p in net.parameters())
    assert net[0].weight.grad_fn is not None


class Pair(nn.Module):
    """Returns its input doubled, and a second argument; others read its plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.kind, self.sizes, self.weight = "sliding", (2, 3), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None, None]:
        return 2 * self.weight * x, bias, None


def test_a_skipped_module_hands_on_what_it_is_given() -> None:
    net = nn.ModuleDict({"zero": Pair(), "same": Pair()}).eval()
    handed_on = (Argument("bias", 1), None)
    skips = [Skip("zero", (Argument("x", 0, zero=True), *handed_on)), Skip("same", (Argument("x", 0), *handed_on))]
    skip_(net, skips)
    x, bias = torch.randn(3, 2), torch.randn(2)
    for name, wanted in (("zero", torch.zeros(3, 2)), ("same", x)):
        for out in (net[name](x, bias), net[name](x, bias=bias), net[name](bias=bias, x=x)):
            assert torch.equal(out[0], wanted) and out[1] is bias and out[2] is None
    assert not list(net.parameters()) and not net["zero"].training
    assert (net["same"].kind, net["same"].sizes) == ("sliding", (2, 3))
    assert "zeros like x" in repr(net)

    again = net["same"]
    apply_repairs_(net, skips)
    assert net["same"] is again, "what is skipped already was skipped again"


def test_a_module_to_skip_that_is_not_there_is_named() -> None:
    with pytest.raises(SecateursError, match=r"no layers\.7"):
        skip_(Net(), [Skip("layers.7", None)])
