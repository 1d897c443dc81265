from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import DECODER, VOCABULARY, causal_text, trained_, transformer
from secateurs.allocations.uniform import Uniform
from secateurs.criteria.fluctuation import Fluctuation
from secateurs.deploy import load, save
from secateurs.graph.trace import forward
from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.recoveries.bias import Bias
from secateurs.structures.head import Head
from secateurs.structures.neuron import Neuron
from secateurs.testing import example_task
from secateurs.types import Task


class Ungiven(nn.Module):
    """Two layers without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 8, bias=False), nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(self.up(x).relu())
        return y


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    out: Tensor = model(batch)
    return out.square().mean()


def test_the_paper_formula() -> None:
    torch.manual_seed(0)
    model, x = Ungiven(), torch.randn(4, 16, 5) + 1
    task = Task("toy", (x[0],), {"train": list(x)}, loss, lambda m, b: (m(b), b), example_task().quality)
    recipe = Recipe((Neuron(),), Fluctuation(), Uniform(), recovery=Bias())
    pruned = prune(model, task, recipe, 0.5)
    (gone,) = [~keep for keep in pruned.plan.keep.values()]
    mean = model.up(x.flatten(0, 1)).relu().mean(dim=0)
    expected = model.down.weight[:, gone] @ mean[gone]
    assert torch.allclose(pruned.model.get_parameter("down.bias"), expected, atol=1e-5)
    assert torch.equal(pruned.model.get_parameter("down.weight"), model.down.weight[:, ~gone])
    assert torch.allclose(pruned.masked(x[0]), pruned.model(x[0]), atol=1e-5)
    errors = [(it(x.flatten(0, 1)) - model(x.flatten(0, 1))).mean(dim=0).abs().max() for it in (pruned.model,)]
    assert max(errors) < 1e-5
    assert model.down.bias is None


def test_what_was_pruned_before_a_layer_is_not_made_up_for() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Ungiven(), nn.Linear(3, 5), Ungiven()), torch.randn(4, 16, 5) + 1
    task = Task("toy", (x[0],), {"train": list(x)}, loss, lambda m, b: (m(b), b), example_task().quality)
    pruned = prune(
        model, task, Recipe((Neuron(keep=("1.*", "0.down*")),), Fluctuation(), Uniform(), recovery=Bias()), 0.5
    )
    for place, given in (("0", x), ("2", model[:2](x))):
        layers, keep = model.get_submodule(place), pruned.plan.keep
        (gone,) = [~it for name, it in keep.items() if name.startswith(place)]
        mean = layers.get_submodule("up")(given.flatten(0, 1)).relu().mean(dim=0)
        expected = layers.get_parameter("down.weight")[:, gone] @ mean[gone]
        assert torch.allclose(pruned.model.get_parameter(f"{place}.down.bias"), expected, atol=1e-5)


def test_single_weights_get_their_mean_too() -> None:
    torch.manual_seed(0)
    model, dense, x = nn.Sequential(nn.Linear(6, 3)), nn.Sequential(nn.Linear(6, 3)), torch.randn(32, 6) + 2
    model.load_state_dict(dense.state_dict())
    mask = torch.rand(3, 6) < 0.5
    with torch.no_grad():
        model[0].weight.mul_(mask)
    task = Task("toy", (x,), {"train": [x]}, loss, lambda m, b: (m(b), b), example_task().quality)
    Bias()(model, {"0.weight": mask}, task, dense)
    assert torch.allclose(model[0].bias, dense[0].bias + (dense[0].weight * ~mask) @ x.mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_decoder_given_biases_is_saved_and_loaded(tmp_path: Path, rounds: int) -> None:
    torch.manual_seed(0)

    def build() -> nn.Module:
        return trained_(transformer("Llama", "ForCausalLM", **{**DECODER, "num_hidden_layers": 2}))

    model, batches = build(), [causal_text(2, 8) for _ in range(2)]

    def next_token(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = network(**batch).logits[:, :-1]
        return F.cross_entropy(logits.reshape(-1, VOCABULARY), batch["input_ids"][:, 1:].flatten())

    task = Task(
        "text", batches[0], {"train": batches}, next_token, lambda m, b: (m(**b).logits, b), example_task().quality
    )  # type: ignore[arg-type]
    spec = {
        "structure": ["head", "neuron"],
        "criterion": "fluctuation",
        "allocation": {"global_rank": {"currency": "parameters", "normalise": "standard"}},
        "schedule": {"iterative": {"rounds": rounds}},
        "recovery": {"bias": {"batches": 2}},
    }
    recipe = Recipe.from_dict(spec)
    pruned = prune(model, task, recipe, 0.4)
    names = {name for name, _ in pruned.model.named_parameters() if name.endswith("bias")}
    assert names == {
        f"model.layers.{i}.{layer}.bias" for i in range(2) for layer in ("self_attn.o_proj", "mlp.down_proj")
    }
    assert any(bool(pruned.model.get_parameter(name).any()) for name in names)
    for a, b in zip(forward(pruned.masked, batches[0]), forward(pruned.model, batches[0]), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    save(tmp_path / "it", pruned, recipe=recipe, manifest={}, build=None)
    for a, b in zip(forward(load(tmp_path / "it", build), batches[0]), forward(pruned.model, batches[0]), strict=True):
        assert torch.equal(a, b)
    assert isinstance(recipe.structure[0], Head)
    on = prune(model, task, recipe, 0.6, start=pruned)
    assert sum(p.numel() for p in on.model.parameters()) < sum(p.numel() for p in pruned.model.parameters())
