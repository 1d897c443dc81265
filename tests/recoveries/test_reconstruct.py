from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import DECODER, causal_text, trained_, transformer
from secateurs.allocations.uniform import Uniform
from secateurs.criteria.block_influence import BlockInfluence
from secateurs.criteria.magnitude import Magnitude
from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.recoveries.nothing import Nothing
from secateurs.recoveries.reconstruct import Reconstruct
from secateurs.structures.layer import Layer
from secateurs.structures.neuron import Neuron
from secateurs.testing import example_task
from secateurs.types import SecateursError, Task


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return out.square().mean()


def toy(*batches: Tensor) -> Task:
    return Task("toy", (batches[0],), {"train": batches}, loss, lambda m, b: (m(b), b), example_task().quality)


@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_of_the_columns_that_are_left(bias: bool) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3, bias=bias)), torch.randn(64, 5)
    recipe = Recipe((Neuron(),), Magnitude(), Uniform(), recovery=Reconstruct(damping=1e-6))
    pruned = prune(model, toy(x[:40], x[40:]), recipe, 0.5)
    (kept,) = pruned.plan.keep.values()
    hidden, wanted = model[1](model[0](x))[:, kept], model(x)
    if bias:
        hidden = torch.cat([hidden, torch.ones(64, 1)], dim=1)
    expected = torch.linalg.lstsq(hidden, wanted).solution.T
    got = torch.cat([p.detach().reshape(3, -1) for p in pruned.model[2].parameters()], dim=1)  # type: ignore[index]
    assert torch.allclose(got, expected.detach(), atol=1e-3)
    assert torch.allclose(pruned.masked(x), pruned.model(x), atol=1e-5)


def test_nothing_lost_nothing_changed() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(64, 5)
    healed = copy.deepcopy(model)
    Reconstruct()(healed, {}, toy(x), model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), healed.parameters(), strict=True))


def text_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    out: Tensor = model(**batch).logits
    return out.square().mean()


@pytest.mark.parametrize(
    ("structure", "criterion"), [(Layer(), BlockInfluence()), (Neuron(), Magnitude())], ids=["depth", "width"]
)
def test_the_stream_of_a_decoder_comes_nearer_to_the_dense_one(structure: Any, criterion: Any) -> None:
    torch.manual_seed(0)
    model = trained_(transformer("Llama", "ForCausalLM", **{**DECODER, "num_hidden_layers": 4}))
    batches = [causal_text(8, 16) for _ in range(4)]
    quality = example_task().quality
    task = Task("text", batches[0], {"train": batches}, text_loss, lambda m, b: (m(**b).logits, b), quality)  # type: ignore[arg-type]
    errors = {}
    for recovery in (Nothing(), Reconstruct(follow="output"), Reconstruct(batches=4)):
        pruned = prune(model, task, Recipe((structure,), criterion, Uniform(), recovery=recovery), 0.25)
        got = [pruned.model.model(**batch)[0] for batch in batches]  # type: ignore[operator, union-attr]
        wanted = [model.model(**batch)[0] for batch in batches]  # type: ignore[operator, union-attr]
        errors[str(recovery)] = sum(float((a - b).detach().square().mean()) for a, b in zip(got, wanted, strict=True))
    plain, output, stream = errors.values()
    assert stream < 0.8 * plain
    assert output <= plain * 1.001


def test_damping_is_checked() -> None:
    with pytest.raises(SecateursError, match="reconstruct: damping must be above 0"):
        Reconstruct(damping=0.0)
