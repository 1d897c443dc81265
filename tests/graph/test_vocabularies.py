"""A vocabulary is what the inputs of a network look up, read by torch's own layers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graph.rules.tracing import traced
from secateurs.graph.network import Graph, Vocabulary

IDS = torch.randint(0, 9, (3, 5))


class Scaled(nn.Embedding):
    """Another embedding than torch's."""

    def forward(self, input: Tensor) -> Tensor:
        return 2.0 * super().forward(input)


def net(forward: Callable[[Any, Tensor], Tensor], table: nn.Embedding | None = None) -> Graph:
    return traced(forward, IDS, e=table or nn.Embedding(9, 6), b=nn.Linear(6, 9), p=nn.Embedding(5, 6))


def test_a_table_and_the_layer_that_scores_its_tokens_are_one() -> None:
    graph = net(lambda m, x: m.b(m.e(x.clamp(min=0).view(-1)).view(3, 5, 6)))
    assert graph.vocabularies[0].tables == ("e",)
    graph = net(lambda m, x: m.b(m.e(x).tanh()))
    [found] = graph.vocabularies
    assert (found.tables, found.outputs) == (("e",), ("b",))
    assert graph.dims[found.dim].carriers == ("e.weight[0]", "b.weight[0]", "b.bias[0]")
    assert graph.dims[found.dim].frozen is None and graph.dims[found.dim].flagged


def test_classes_of_a_whole_text_are_no_tokens() -> None:
    graph = net(lambda m, x: m.b(m.e(x).sum(1)))
    assert graph.vocabularies == (Vocabulary("e.vocabulary", ("e",)),)
    assert graph.dims["e.vocabulary"].flagged is None
    assert graph.dims["b.output"].frozen == "an output of the model"


FROZEN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "numbers are computed": lambda m, x: m.b(m.e(x.cumsum(1) % 9)),
    "numbers are constants": lambda m, x: m.b(m.e(torch.arange(5)) + F.one_hot(x, 6).float()[..., :6]),
    "read by another operator": lambda m, x: m.b(m.e(x)) @ m.e.weight,
    "looked up outside of the layer": lambda m, x: F.embedding(x, m.e.weight) + m.e(x),
    "scores are summed over": lambda m, x: m.b(m.e(x)) @ m.b.weight,
}


@pytest.mark.parametrize("case", FROZEN)
def test_unsure_is_frozen(case: str) -> None:
    ids = IDS.clamp(max=5) if "constants" in case else IDS
    layers = {"e": nn.Embedding(9, 6), "b": nn.Linear(6, 9)}
    graph = traced(FROZEN[case], ids, **layers)
    assert not any(vocabulary.outputs for vocabulary in graph.vocabularies)
    if "summed" not in case:
        assert graph.vocabularies == ()


def test_another_embedding_is_frozen() -> None:
    assert net(lambda m, x: m.b(m.e(x)), Scaled(9, 6)).vocabularies == ()


def test_positions_are_no_vocabulary() -> None:
    graph = net(lambda m, x: m.b(m.e(x) + m.p(torch.arange(5))))
    assert [vocabulary.tables for vocabulary in graph.vocabularies] == [("e",)]
