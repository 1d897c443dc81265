from __future__ import annotations

import torch
from torch import Tensor, nn

from secateurs.graph import trace
from secateurs.structures.weight import Weight


class Net(nn.Module):
    """A table that is also the output layer, a convolution, a transposed and a plain linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv = nn.Embedding(7, 6), nn.Conv1d(6, 8, 3, padding=1, groups=2)
        self.across, self.bias = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(5))
        self.back, self.out = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(self.table(tokens).transpose(1, 2)).transpose(1, 2).relu()
        x = torch.addmm(self.bias, x.flatten(0, 1), self.across).relu()
        x = self.back(x)
        return x @ self.table.weight.t(), self.out(x)


NETWORK = trace(Net(), (torch.randint(0, 7, (2, 4)),))


def test_every_weight_that_multiplies_is_a_unit() -> None:
    found = {g.name: g for g in Weight()(NETWORK)}
    assert {name: g.n_units for name, g in found.items()} == {"conv.weight": 72, "across": 40, "back.weight": 30}
    assert all(g.block == g.n_units and not g.removable for g in found.values())


def test_rows_are_consecutive_whichever_way_the_weight_lies() -> None:
    found = {g.name: g for g in Weight(per="row")(NETWORK)}
    assert {name: g.block for name, g in found.items()} == {"conv.weight": 9, "across": 8, "back.weight": 5}
    grids = {"conv.weight": (8, 3, 3), "across": (5, 8), "back.weight": (6, 5)}
    assert {name: g.grid for name, g in found.items()} == grids
    model = Net()
    for name, row in (
        ("conv.weight", model.conv.weight[5].flatten()),
        ("across", model.across[:, 3]),
        ("back.weight", model.back.weight[5]),
    ):
        group = found[name]
        [member] = group.members
        rows = member.cut(model.get_parameter(name)).reshape(group.n_blocks, group.block)
        assert any(torch.equal(r, row) for r in rows)


def test_tied_tables_never_output_layers_on_request() -> None:
    assert "out.weight" in {g.name for g in Weight(outputs=True)(NETWORK)}
    assert "table.weight" not in {g.name for g in Weight(outputs=True)(NETWORK)}


def test_keep() -> None:
    assert [g.name for g in Weight(keep=("conv.*", "a*"))(NETWORK)] == ["back.weight"]


def test_masks_fall_on_the_weights_they_name() -> None:
    [group] = [g for g in Weight(per="row")(NETWORK) if g.name == "across"]
    [member] = group.members
    keep = torch.ones(40, dtype=torch.bool)
    keep[8] = False  # output 1, input 0
    mask = member.mask(keep, (8, 5))
    assert mask.shape == (8, 5) and (~mask).nonzero().tolist() == [[0, 1]]


def test_a_stream_that_is_an_output_does_not_spare_what_writes_to_it():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=4)
    ids = torch.arange(6)[None]
    network = trace(T5ForConditionalGeneration(config).eval(), {"input_ids": ids, "decoder_input_ids": ids})
    names = {group.name for group in Weight()(network)}
    assert "encoder.block.0.layer.0.SelfAttention.o.weight" in names
    assert "decoder.block.1.layer.2.DenseReluDense.wo.weight" in names
    assert "lm_head.weight" not in names
