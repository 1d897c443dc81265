"""What is read ahead is what would have been read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from secateurs.checkpoint import Checkpoint
from secateurs.checkpoint.ahead import Ahead
from secateurs.types import SecateursError
from tasks.conftest import tiny_llama

pytest.importorskip("transformers", reason="checkpoints are those of transformers")
BLOCKS = tuple(f"model.layers.{i}" for i in range(4))


def test_in_turn_and_out_of_turn_each_part_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    dense = tiny_llama(num_hidden_layers=4)
    dense.save_pretrained(tmp_path, max_shard_size="5kB")
    source = Checkpoint.open(tmp_path)
    network = source.empty()
    with Ahead(source, BLOCKS, "cpu") as ahead:
        for part in (*BLOCKS, BLOCKS[1], BLOCKS[3], BLOCKS[0]):
            ahead.load_(network, part)
            for name in source.names(part):
                assert torch.equal(network.get_parameter(name), dense.get_parameter(name)), name
            source.release_(network, part)
            assert network.get_parameter(f"{part}.mlp.up_proj.weight").is_meta
    assert not [it for it in threading.enumerate() if it.name.startswith("secateurs-reads")]


def test_what_cannot_be_read_is_told_when_its_turn_comes(tmp_path: Path) -> None:
    tiny_llama(num_hidden_layers=4).save_pretrained(tmp_path, max_shard_size="5kB")
    source = Checkpoint.open(tmp_path)
    network = source.empty()
    source.source.tensors["model.layers.1.mlp.up_proj.weight"].file.unlink()  # type: ignore[union-attr]
    with Ahead(source, BLOCKS, "cpu") as ahead:
        ahead.load_(network, BLOCKS[0])
        with pytest.raises(SecateursError, match=r"tensor model\.layers\.1\.\S+ cannot be read"):
            ahead.load_(network, BLOCKS[1])
