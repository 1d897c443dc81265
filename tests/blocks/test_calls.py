"""Each block run with what the network itself would call it with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chained import CASES, gemma, llama, numbers, pairs, switch, t5, tokens
from secateurs.blocks import Calls, Handed, chains, entries
from secateurs.types import SecateursError


def run(calls: Calls, model: nn.Module) -> Tensor:
    state: tuple[Any, ...] = (calls.first,)
    with torch.no_grad():
        for position, block in enumerate(calls.chain.modules(model)):
            state = calls.step(position, block, state)
    return state[0]


@pytest.mark.parametrize("name", CASES)
def test_blocks_run_one_by_one_give_what_the_network_gives(name: str) -> None:
    build, inputs, _ = CASES[name]
    model = build()
    found = chains(model)
    given = inputs()
    outputs: dict[str, Tensor] = {}
    for chain in found:
        chain.modules(model)[-1].register_forward_hook(
            lambda _, __, out, key=chain.name: outputs.update({key: out[0] if isinstance(out, tuple) else out})
        )
    with torch.no_grad():
        model(**given) if isinstance(given, dict) else model(*given)
    expected = dict(outputs)
    before: list[tuple[Calls, Tensor]] = []
    for chain in found:
        calls = entries(model, chain, given, before)
        before.append((calls, run(calls, model)))
        assert torch.equal(before[-1][1], expected[chain.name])


@pytest.mark.parametrize("name", CASES)
def test_entries_need_nothing_of_the_blocks(name: str) -> None:
    build, inputs, _ = CASES[name]
    model = build()
    found = chains(model)
    for chain in found:
        for block in chain.modules(model):
            block.to("meta")
    calls = entries(model, found[0], inputs())
    assert not calls.first.is_meta
    assert all("forward" not in vars(block) for block in found[0].modules(model))


def test_blocks_get_masks_of_their_own() -> None:
    model = gemma()
    calls = entries(model, chains(model)[0], tokens())
    masks = [entry.kwargs["attention_mask"] for entry in calls.entries]
    assert masks[0] is masks[2] and masks[1] is masks[3]
    assert not torch.equal(masks[0], masks[1])


def test_what_the_first_block_computes_for_the_others_is_handed_on() -> None:
    model = t5()
    calls = entries(model, chains(model)[0], pairs())
    assert calls.returned == 3
    assert calls.entries[0].args[0] == Handed(0) and calls.entries[0].args[2] is None
    assert calls.entries[1].args[2] == Handed(1)


def test_the_cache_is_off_and_the_config_stays() -> None:
    model = llama()
    calls = entries(model, chains(model)[0], (tokens()["input_ids"],))
    assert all(entry.kwargs["past_key_values"] is None for entry in calls.entries)
    assert model.config.use_cache is True


def test_the_cache_of_a_decoder_with_a_config_of_its_own_is_off() -> None:
    model = switch()
    encoder, decoder = chains(model)
    first = entries(model, encoder, pairs())
    calls = entries(model, decoder, pairs(), [(first, run(first, model))])
    assert all(entry.kwargs["past_key_values"] is None for entry in calls.entries)
    assert model.decoder.config is not model.config and model.decoder.config.use_cache is True


class Stack(nn.Module):
    def __init__(self, body: Callable[[nn.ModuleList, Tensor], Tensor]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.blocks, x)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda b, x: b[2](b[1](b[0](x)).relu() + 1), r"blocks\.2 is not called with what the block before returns"),
        (lambda b, x: b[2](b[0](b[1](x))), r"blocks\.1 is called out of order"),
        (lambda b, x: b[0](b[0](x)), r"blocks\.0 is called out of order or twice"),
        (lambda b, x: b[1](b[0](x)), r"blocks\.2 is not called in a forward pass"),
        (lambda b, x: b[0](None), r"blocks\.0 is called without a hidden state"),
    ],
)
def test_a_chain_that_is_no_chain_is_told(body: Callable[[nn.ModuleList, Tensor], Tensor], message: str) -> None:
    model = Stack(body)
    with pytest.raises(SecateursError, match=message):
        entries(model, chains(model)[0], numbers())


def test_an_error_before_the_chain_is_the_networks_own() -> None:
    model = llama()
    with pytest.raises(TypeError, match="indices"):
        entries(model, chains(model)[0], {"input_ids": "text"})
