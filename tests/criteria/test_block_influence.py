from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from networks import DECODER, causal_text, transformer
from secateurs.criteria.block_influence import BlockInfluence
from secateurs.evidence import scores
from secateurs.graph import trace
from secateurs.structures.layer import Layer
from secateurs.testing import example_task
from secateurs.types import Rows, SecateursError, Task


def test_it_is_the_influence() -> None:
    rows = [Rows(torch.ones(1, 4), influence=torch.tensor([[0.25]])), Rows(torch.ones(1, 2))]
    assert BlockInfluence()(rows).tolist() == [0.25]


def test_the_paper_formula_on_the_blocks_of_a_decoder() -> None:
    torch.manual_seed(0)
    model = transformer("Llama", "ForCausalLM", **{**DECODER, "num_hidden_layers": 3})
    batches = [causal_text(2, length) for length in (6, 9)]
    task = Task(
        "text", batches[0], {"train": batches}, lambda m, b: m(**b).logits.square().mean(),  # type: ignore[arg-type]
        lambda m, b: (m(**b).logits, b["input_ids"]), example_task().quality,
    )  # fmt: skip
    [group] = Layer()(trace(model, batches[0]))
    found = scores(model, [group], BlockInfluence(), task, 2)[group.name]
    cosines = []
    for batch in batches:
        states = model.model(**batch, output_hidden_states=True).hidden_states
        pairs = pairwise(states[:3])  # the last state is behind the final norm
        cosines.append(torch.stack([torch.cosine_similarity(a, b, dim=-1).flatten() for a, b in pairs]))
    assert torch.allclose(found[:2], 1 - torch.cat(cosines, dim=1).mean(dim=1), atol=1e-5)


def test_units_that_are_no_blocks_are_refused() -> None:
    with pytest.raises(SecateursError, match="block_influence: it is of blocks alone"):
        BlockInfluence()([Rows(torch.ones(2, 1))])
