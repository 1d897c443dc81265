from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import Module

from secateurs.blocks import chains, outside
from secateurs.checkpoint import Checkpoint
from secateurs.checkpoint.in_turn import in_turn
from secateurs.graph import trace
from tasks.conftest import tiny_llama

pytest.importorskip("transformers", reason="checkpoints are those of transformers")

INPUTS = {"input_ids": torch.tensor([[1, 2, 3]]), "use_cache": False}


def bytes_held(network: Module) -> int:
    storages = {it.untyped_storage().data_ptr(): it.untyped_storage().nbytes() for it in network.parameters()}
    return sum(storages.values())


def test_a_network_runs_with_one_block_in_memory(tmp_path: Path) -> None:
    model = tiny_llama().eval()
    model.save_pretrained(tmp_path)
    source = Checkpoint.open(tmp_path)
    network = source.empty()
    found = chains(network)
    (blocks,) = (chain.blocks for chain in found)
    rest, held, parameters = outside(network, found), [], list(network.parameters())
    for block in blocks:
        network.get_submodule(block).register_forward_hook(lambda *_: held.append(bytes_held(network)))
    with in_turn(source, network, blocks, rest), torch.no_grad():
        found_logits = network(**INPUTS).logits
        between = bytes_held(network)
    assert torch.equal(found_logits, model(**INPUTS).logits)
    of_a_block = sum(it.nbytes for it in model.get_submodule(blocks[0]).parameters())
    assert between < held[0] == held[1] <= between + of_a_block
    assert all(it.is_meta for it in network.parameters())
    assert [id(it) for it in network.parameters()] == [id(it) for it in parameters]


def test_a_trace_sees_what_it_sees_with_all_weights(tmp_path: Path) -> None:
    model = tiny_llama().eval()
    model.save_pretrained(tmp_path)
    source = Checkpoint.open(tmp_path)
    network = source.empty()
    found = chains(network)
    with in_turn(source, network, found[0].blocks, outside(network, found)):
        mine = trace(network, INPUTS)
    theirs = trace(model, INPUTS)
    assert mine.dims == theirs.dims and mine.weights == theirs.weights and mine.products == theirs.products
