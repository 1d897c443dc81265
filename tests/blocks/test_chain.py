"""Chains of blocks, found by structure."""

from __future__ import annotations

import pytest
from torch import nn

from chained import CASES, jamba, llama
from secateurs.blocks import chains, outside
from secateurs.types import SecateursError


@pytest.mark.parametrize("name", CASES)
def test_chains_are_found_by_structure_on_any_device(name: str) -> None:
    build, _, names = CASES[name]
    model = build()
    found = chains(model)
    assert tuple(chain.name for chain in found) == names
    assert all(len(chain) > 1 for chain in found)
    assert chains(model.to("meta")) == found


@pytest.mark.parametrize("name", CASES)
def test_a_parameter_is_in_a_block_or_outside(name: str) -> None:
    model = CASES[name][0]()
    found = chains(model)
    held = {
        f"{block}.{key}"
        for c in found
        for block in c.blocks
        for key, _ in model.get_submodule(block).named_parameters()
    }
    assert held.isdisjoint(outside(model, found))
    assert held | set(outside(model, found)) >= {key for key, _ in model.named_parameters()}


def test_a_hybrid_network_is_one_chain_of_blocks_of_several_kinds() -> None:
    model = jamba()
    (chain,) = chains(model)
    assert len(chain) == 6
    assert len({type(block) for block in chain.modules(model)}) == 2


def test_blocks_of_two_classes_are_a_chain_where_they_name_their_modules_alike() -> None:
    class Other(nn.ModuleDict):
        pass

    first = nn.ModuleDict({"norm": nn.Linear(2, 2), "mlp": nn.Linear(2, 2), "mixer": nn.Linear(2, 2)})
    second = Other({"norm": nn.Linear(2, 2), "mlp": nn.Linear(2, 2), "attention": nn.Linear(2, 2)})
    (chain,) = chains(nn.ModuleDict({"blocks": nn.ModuleList([first, second])}))
    assert chain.blocks == ("blocks.0", "blocks.1")
    with pytest.raises(SecateursError, match="ModuleDict has no chain"):
        chains(nn.ModuleDict({"parts": nn.ModuleList([nn.ModuleDict({"a": nn.Linear(2, 2)}), second])}))


def test_single_layers_in_a_row_are_no_chain_beside_blocks() -> None:
    blocks = [nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(2)]
    projector = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    assert [chain.name for chain in chains(nn.ModuleDict({"a": projector}))] == ["a"]
    found = chains(nn.ModuleDict({"a": projector, "b": nn.ModuleList(blocks)}))
    assert [chain.name for chain in found] == ["b"]


def test_a_small_list_beside_a_great_one_is_no_chain() -> None:
    model = nn.ModuleDict({"small": nn.ModuleList(nn.Linear(1, 1) for _ in range(2))})
    model["great"] = nn.ModuleList(nn.Linear(9, 9) for _ in range(2))
    assert [chain.name for chain in chains(model)] == ["great"]


def test_a_network_of_one_block_is_a_chain_of_one() -> None:
    model = llama(num_hidden_layers=1)
    (chain,) = chains(model)
    assert chain.name == "model.layers" and chain.blocks == ("model.layers.0",)
    one, two, three = (nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)) for _ in range(3))
    (chain,) = chains(nn.ModuleDict({"adapter": nn.ModuleList([one]), "blocks": nn.ModuleList([two, three])}))
    assert len(chain) == 2, "beside blocks in a row a single one is no chain"


def test_no_chain_is_told() -> None:
    with pytest.raises(SecateursError, match="Linear has no chain of blocks: looked for a ModuleList"):
        chains(nn.Linear(3, 3))
