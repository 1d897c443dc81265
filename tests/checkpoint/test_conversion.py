"""Between the layout of a checkpoint and that of the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from chained import CASES
from secateurs.checkpoint.conversion import conversions, restored
from secateurs.checkpoint.shards import Shards
from secateurs.types import SecateursError

from .conftest import Saved


def test_experts_are_stacked_from_their_own_tensors_and_no_others(saved: Saved) -> None:
    model, directory = saved("mixtral")
    shards = Shards.beside(directory)
    made = conversions(model, shards.tensors).made["model.layers.1.mlp.experts.gate_up_proj"]
    read: list[str] = []

    def reading(name: str) -> Tensor:
        read.append(name)
        return shards.read(name)

    tensors = made(model, reading)
    assert torch.equal(tensors[made.targets[0]], model.get_parameter(made.targets[0]))
    assert len(read) == 6
    assert all("layers.1.block_sparse_moe.experts." in name for name in read)


@pytest.mark.parametrize("name", ["mixtral", "llama", "t5"])
def test_back_and_forth_is_the_same_checkpoint(saved: Saved, name: str) -> None:
    model, directory = saved(name)
    shards = Shards.beside(directory)
    found = conversions(model, shards.tensors)
    assert set(found.made) >= {key for key, _ in model.named_parameters()}
    back = restored(model, dict(model.named_parameters()))
    assert set(back) == set(shards.tensors)
    assert all(torch.equal(tensor, shards.read(key)) for key, tensor in back.items())


def test_a_base_models_checkpoint_fits_the_network_with_a_head(tmp_path: Path) -> None:
    model = CASES["gpt2"][0]()
    model.transformer.save_pretrained(tmp_path)
    made = conversions(model, Shards.beside(tmp_path).tensors).made
    assert made["transformer.h.0.ln_1.weight"].sources.keys() == {"h.0.ln_1.weight"}


def test_experts_of_unlike_shapes_are_told(saved: Saved) -> None:
    model, directory = saved("mixtral")
    name = "model.layers.1.mlp.experts.down_proj"
    made = conversions(model, Shards.beside(directory).tensors).made[name]
    sizes = iter(range(1, 9))
    with pytest.raises(SecateursError, match=r"down_proj cannot be made from model\.layers\.1\.block_sparse_moe"):
        made(model, lambda _: torch.ones(next(sizes), 2))
