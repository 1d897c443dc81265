from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs.criteria.redundancy import Redundancy
from secateurs.prune import prune
from secateurs.recipe import load_recipe
from secateurs.testing import example_task
from secateurs.types import Rows, Task


def test_clusters_by_hand() -> None:
    """At 0, 1 | 10, 12 | 40: 1 with 0, 12 with 10, then these two clusters, then 40."""
    rows = Rows(torch.tensor([[0.5], [1.5], [10.5], [12.5], [40.5]]))
    scores = Redundancy()([rows])
    scale = float(rows.weight.double().square().mean())
    kept = [sorted(scores.topk(n).indices.tolist()) for n in (4, 3, 2, 1)]
    assert len(set(kept[0]) & {0, 1}) == 1 and len(set(kept[1]) & {2, 3}) == 1
    assert 4 in kept[2] and kept[2][0] in kept[1] and kept[2][0] in (0, 1, 2, 3)
    first, second, third, *_ = (scores.sort().values * scale).tolist()
    assert (first, second) == pytest.approx((1.0, 4.0))
    assert third == pytest.approx((10.0**2 + 12.0**2 + 9.0**2 + 11.0**2) / 4)


def test_one_of_units_alike_stays_until_the_last_and_zeros_go_first() -> None:
    source = torch.Generator().manual_seed(0)
    three = torch.randn(3, 8, generator=source)
    weight = torch.cat([three, three[[0, 0, 1]] + 1e-3 * torch.randn(3, 8, generator=source), torch.zeros(1, 8)])
    for linkage in ("average", "complete"):
        scores = Redundancy(linkage=linkage)([Rows(weight), Rows(torch.zeros(7, 2))])  # type: ignore[arg-type]
        assert scores.argmin() == 6 and scores[6] == 0
        kept = scores.topk(3).indices
        assert {int((weight[i] - three).norm(dim=1).argmin()) for i in kept} == {0, 1, 2}


def test_tensors_count_alike_whatever_their_scale_and_size() -> None:
    source = torch.Generator().manual_seed(1)
    a, b = torch.randn(6, 4, generator=source), torch.randn(6, 50, generator=source)
    scores = Redundancy()([Rows(a), Rows(b)])
    assert torch.allclose(scores, Redundancy()([Rows(100 * a), Rows(0.01 * b)]), rtol=1e-4)
    assert Redundancy()([Rows(torch.ones(1, 3))]).tolist() == [1.0]


def mixture(**sizes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="these networks come from transformers")
    config = transformers.MixtralConfig(
        hidden_size=16, num_attention_heads=4, intermediate_size=24, vocab_size=40, num_hidden_layers=2,
        num_key_value_heads=2, num_local_experts=6, num_experts_per_tok=2, **sizes,
    )  # fmt: skip
    return trained_(transformers.MixtralForCausalLM(config))


@pytest.mark.parametrize("sequential", [True, False])
def test_experts_first_then_single_weights_of_those_that_stay(sequential: bool) -> None:
    model = mixture()
    for layer in model.model.layers:  # type: ignore[union-attr]
        for tensor in (layer.mlp.gate.weight, layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj):
            tensor.data[3:] = tensor.data[:3] * (1 + 1e-3)
    batches = [{"input_ids": torch.randint(1, 40, (2, 9))} for _ in range(3)]

    def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = network(**batch, labels=batch["input_ids"]).loss
        return out

    task = Task("toy", batches[0], {"train": batches}, loss, lambda m, b: (m(**b), b), example_task().quality)
    experts = prune(model, task, load_recipe("stun_experts"), 0.5)
    for keep in experts.plan.keep.values():
        assert sorted(i % 3 for i in keep.nonzero().flatten().tolist()) == [0, 1, 2], "one of each pair stays"
    assert experts.model.model.layers[0].mlp.experts.down_proj.shape[0] == 3  # type: ignore[union-attr,index]

    weights = prune(experts.model, task, replace(load_recipe("owl"), sequential=sequential), 0.4)
    down = weights.model.model.layers[1].mlp.experts.down_proj  # type: ignore[union-attr,index]
    zeros = (down == 0).sum(dim=2)
    assert zeros.min() == zeros.max() > 0, "every row of every expert loses the same"
    assert weights.plan.sparsity == pytest.approx(0.4, abs=0.05)
    assert torch.isfinite(weights.model(**batches[0]).logits).all()
