from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from networks import groups_of, trained_
from secateurs.graph import trace
from secateurs.graph.attributes import mirrors, reads
from secateurs.graph.trace import forward
from secateurs.repair import Repair
from secateurs.surgery import shrink
from secateurs.types import Plan


class Settings:
    """A record that several modules share."""

    def __init__(self, **values: int) -> None:
        vars(self).update(values)


class Attention(nn.Module):
    """Keeps heads, their size, the split of a fused projection, and a counter that may equal one of them."""

    def __init__(self, number: int, heads: int = 4, size: int = 3, width: int = 10) -> None:
        super().__init__()
        self.layer_number = number
        self.n_heads, self.size = heads, size
        self.sections = (heads * size, heads * size, heads * size)
        self.qkv, self.out = nn.Linear(width, 3 * heads * size), nn.Linear(heads * size, width)

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], -1, self.n_heads, self.size)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in self.qkv(x).split(self.sections, dim=-1))
        scale = self.layer_number * 0.1
        weights = torch.softmax(q @ k.transpose(2, 3) * scale, dim=-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Attention(number) for number in range(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class Configured(nn.Module):
    """Two layers that read one record."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Settings(hidden=6, layers=2, unused=6)
        self.halves = nn.ModuleList(Half(self.config) for _ in range(self.config.layers))

    def forward(self, x: Tensor) -> Tensor:
        for half in list(self.halves)[: self.config.layers]:
            x = x + half(x)
        return x


class Half(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.up, self.down = nn.Linear(4, config.hidden), nn.Linear(config.hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)).view(-1, self.config.hidden))


def shrunk(model: nn.Module, inputs: tuple[Tensor, ...], drop: dict[str, list[int]]) -> tuple[nn.Module, list[Repair]]:
    network = trace(model, inputs)
    groups = groups_of(network)
    assert drop.keys() <= {group.name for group in groups}
    keep = {}
    for group in groups:
        keep[group.name] = torch.ones(group.n_units, dtype=torch.bool)
        keep[group.name][drop.get(group.name, [])] = False
    found = shrink(model, groups, Plan(keep), network, inputs)
    return found.model, list(found.repairs)


def test_heads_and_sections_are_repaired_and_a_counter_that_equals_them_is_not() -> None:
    model, inputs = trained_(Stack()), (torch.randn(2, 5, 10),)
    small, _ = shrunk(model, inputs, {f"blocks.{i}.heads": [0] for i in range(4)})
    for number, block in enumerate(small.blocks, start=2):
        assert isinstance(block, Attention)
        assert (block.n_heads, block.size, block.layer_number) == (3, 3, number)
        assert block.sections == (9, 9, 9)


def test_layers_of_different_widths_keep_sizes_of_their_own() -> None:
    model, inputs = trained_(Stack()), (torch.randn(2, 5, 10),)
    small, _ = shrunk(model, inputs, {"blocks.0.heads": [1], "blocks.2.heads": [0, 3]})
    assert [block.n_heads for block in small.blocks] == [3, 4, 2, 4]


def test_a_shared_record_is_repaired_for_the_module_that_needs_it() -> None:
    model, inputs = trained_(Configured()), (torch.randn(2, 4),)
    small, repairs = shrunk(model, inputs, {"halves.0.neurons": [2]})
    assert Repair("halves.0", "config.hidden", 5) in repairs
    assert small.halves[0].config.hidden == 5
    assert small.halves[1].config.hidden == small.config.hidden == 6
    assert model.config.hidden == 6, "the dense network keeps its record"
    assert all(repair.attribute != "config.layers" for repair in repairs)


def test_strides_kernels_and_paddings_are_no_sizes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 2, 2), nn.ReLU(), nn.Conv2d(2, 3, 2, 2, 1), nn.ReLU(), nn.Conv2d(3, 2, 1))
    small, _ = shrunk(trained_(model), (torch.randn(2, 3, 8, 8),), {"0.channels": [0], "2.channels": [0]})
    assert (small[2].kernel_size, small[2].stride, small[2].padding) == ((2, 2), (2, 2), (1, 1))
    assert (small[0].out_channels, small[2].in_channels, small[2].out_channels) == (1, 1, 2)


def test_a_depthwise_convolution_has_as_many_groups_as_channels() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 2, 1))
    small, _ = shrunk(trained_(model), (torch.randn(2, 3, 8, 8),), {"0.channels": [0, 5]})
    assert (small[1].groups, small[1].in_channels, small[1].out_channels) == (4, 4, 4)


def test_mirrors_say_what_torch_s_layers_repeat() -> None:
    layer = nn.Linear(4, 6)
    layer.weight.data = layer.weight.data[:5, :3]
    assert mirrors(nn.Sequential(layer)) == [Repair("0", "in_features", 3), Repair("0", "out_features", 5)]
    assert (
        mirrors(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Embedding(3, 2), nn.ConvTranspose1d(4, 6, 3)))
        == []
    )


def test_reads_sees_what_forward_reads_and_leaves_no_trace() -> None:
    model = Configured()
    with reads(model) as seen:
        forward(model, (torch.randn(2, 4),))
    assert (id(model.config), "hidden") in seen
    assert (id(model.config), "unused") not in seen
    assert "__getattribute__" not in vars(Half)
    assert "__getattribute__" not in vars(Settings)


def test_reads_leaves_no_trace_of_a_failure_nor_of_a_class_that_watches_itself() -> None:
    class Watchful(nn.Module):
        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x)

    own = vars(Watchful)["__getattribute__"]
    with pytest.raises(ZeroDivisionError), reads(Watchful()):
        raise ZeroDivisionError
    assert vars(Watchful)["__getattribute__"] is own


class Core(nn.Module):
    """Attention without a tensor of its own; sizes that only its neighbours carry."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.dim = 4, 3

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = (*q.shape[:2], self.heads, self.dim)
        q, k, v = (t.view(shape).transpose(1, 2) for t in (q, k, v))
        return (torch.softmax(q @ k.transpose(2, 3), -1) @ v).transpose(1, 2).flatten(2)


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.core = Core()
        self.q, self.k, self.v = (nn.Linear(5, 12) for _ in range(3))
        self.out = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.core(self.q(x), self.k(x), self.v(x)))


def test_a_module_without_tensors_keeps_the_sizes_of_its_neighbours() -> None:
    small, repairs = shrunk(trained_(Around()), (torch.randn(2, 5, 5),), {"q.heads": [1, 2]})
    assert (small.core.heads, small.core.dim) == (2, 3)
    assert Repair("core", "heads", 2) in repairs


def test_the_size_of_an_unflattening_is_repaired_and_the_kernel_of_a_pool_is_not() -> None:
    layers = (nn.Linear(4, 24), nn.Unflatten(1, (6, 2, 2)), nn.MaxPool2d(2, 2), nn.Conv2d(6, 2, 1))
    small, repairs = shrunk(trained_(nn.Sequential(*layers)), (torch.randn(2, 4),), {"0.channels": [0, 1, 2]})
    names = {repair.attribute for repair in repairs}
    assert small[1].unflattened_size == (3, 2, 2)
    assert names == {"unflattened_size", "out_features", "in_channels"}


def test_groups_of_a_norm_without_scale_are_repaired() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8, affine=False), nn.Conv2d(8, 2, 1))
    small, _ = shrunk(trained_(model), (torch.randn(2, 3, 4, 4),), {"0.channel_groups": [3]})
    assert (small[1].num_groups, small[2].in_channels) == (3, 6)


class Patched(nn.Module):
    """A number that equals a size deep inside, and that one input does not tell from it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = 4
        self.inner = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))))

    def forward(self, x: Tensor) -> Tensor:
        length = max(x.shape[1], self.patch)
        return self.inner(x).sum(1) * (length if x.shape[1] > 2 else 1)


def test_a_number_that_equals_a_size_deep_inside_is_left_alone_where_the_proof_cannot_tell() -> None:
    small, _ = shrunk(trained_(Patched()), (torch.randn(2, 2, 3),), {"inner.0.0.neurons": [0]})
    assert small.patch == 4


def test_modules_of_one_class_in_two_arrangements_are_repaired_apart() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Grouped(2, 1), Grouped(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    small, _ = shrunk(trained_(Mixed()), (torch.randn(2, 5, 6),), {"first.heads": [0], "second.kv_heads": [1]})
    assert (small.first.heads, small.first.kv_heads, small.first.head_dim) == (1, 1, 3)
    assert (small.second.heads, small.second.kv_heads, small.second.head_dim) == (3, 1, 3)


class Grouped(nn.Module):
    """Queries in groups, that share keys and values."""

    def __init__(self, kv_heads: int, group: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = kv_heads * group, kv_heads, 3
        self.q, self.kv = nn.Linear(6, self.heads * 3), nn.Linear(6, 2 * kv_heads * 3)
        self.out = nn.Linear(self.heads * 3, 6)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).view(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)
        k, v = self.kv(x).view(*x.shape[:2], 2, self.kv_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        return self.out((torch.softmax(q @ k.transpose(2, 3), -1) @ v).transpose(1, 2).flatten(2))


def test_a_size_read_by_no_forward_pass_follows_where_there_is_no_doubt() -> None:
    class Remembering(nn.Module):
        """Keeps its width for whoever asks, and a counter that equals it."""

        def __init__(self) -> None:
            super().__init__()
            self.width, self.counter = 6, 7
            self.up, self.down = nn.Linear(4, self.width), nn.Linear(self.width, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.relu(self.up(x)))

    small, repairs = shrunk(trained_(Remembering()), (torch.randn(2, 4),), {"up.neurons": [0, 1]})
    assert (small.width, small.counter) == (4, 7)
    assert Repair("", "width", 4) in repairs


def test_a_weight_that_is_computed_may_fail_on_a_repair_on_trial() -> None:
    """Torch counts the two tensors of a weight norm by a number of its own, which equals the sizes here."""
    layer = parametrizations.weight_norm(nn.Linear(2, 2))
    model = trained_(nn.Sequential(nn.Linear(3, 2), layer, nn.Linear(2, 3)))
    inputs = (torch.randn(5, 3),)
    graph = trace(model, inputs)
    groups = groups_of(graph)
    assert groups
    small = shrink(model, groups, Plan({group.name: torch.tensor([True, False]) for group in groups}), graph, inputs)
    assert small.model[1].parametrizations.weight.ntensors == 2


def test_of_two_repairs_that_both_run_the_exact_one_is_taken() -> None:
    """One head of three or three heads of one: with attention almost even, they give almost the same."""
    model = trained_(Grouped(3, 3))
    with torch.no_grad():
        for name, scale in (("q", 1e-2), ("kv", 1e-2), ("out", 1e-2)):
            getattr(model, name).weight.mul_(scale)
            getattr(model, name).bias.mul_(scale)
        model.out.bias.add_(1)
    inputs = (torch.randn(2, 5, 6),)
    network = trace(model, inputs)
    groups = groups_of(network)
    keep = {
        group.name: torch.arange(group.n_units) % group.block == 0 for group in groups if "head_dim" not in group.name
    }
    small = shrink(model, groups, Plan(keep), network, inputs).model
    assert (small.heads, small.kv_heads, small.head_dim) == (1, 1, 3)
