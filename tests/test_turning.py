"""Turned networks compute what they did; what cannot be turned is said, and left."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs import Recipe, prune
from secateurs.bases.principal import Principal
from secateurs.deploy import Transformers, load, save
from secateurs.deploy.pretrained import save_pretrained
from secateurs.graph import trace
from secateurs.measures.loss import Loss
from secateurs.structures.head import Head
from secateurs.structures.neuron import Neuron
from secateurs.structures.width import Width
from secateurs.turning import turned
from secateurs.types import SecateursError, Task

IDS = torch.randint(0, 64, (4, 12), generator=torch.Generator().manual_seed(0))
SIZES = {"vocab_size": 64, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 4}
GROUPED = SIZES | {"num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def network(kind: str, **fields: Any) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**GROUPED, **fields})
    known = {"GPT2": "GPT2LMHeadModel", "T5": "T5ForConditionalGeneration"}
    return trained_(getattr(transformers, known.get(kind, f"{kind}ForCausalLM"))(config))


def task_of(model: nn.Module, **more: Tensor) -> Task:
    def loss(net: nn.Module, batch: Any) -> Tensor:
        return net(**batch, **({} if "decoder_input_ids" in more else {"labels": batch["input_ids"]}))[0].float().mean()

    inputs = {"input_ids": IDS[:2, :8], **more}
    return Task("text", inputs, {"train": [inputs if more else {"input_ids": IDS}]}, loss, None, Loss())  # type: ignore[arg-type]


def in_axes(model: nn.Module, *structures: Any) -> nn.Module:
    task = task_of(model)
    return turned(model, task, Principal(), structures, 1, trace(model, task.example_inputs))[0]


def apart(one: nn.Module, other: nn.Module) -> float:
    with torch.no_grad():
        a, b = one(input_ids=IDS).logits, other(input_ids=IDS).logits
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("Llama", {"head_dim": 8, "tie_word_embeddings": True}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 8}),
        ("Mixtral", {"num_local_experts": 3}),
        ("Gemma", {"head_dim": 8, "num_key_value_heads": 1}),
    ],
)
def test_a_language_model_computes_the_same_in_its_principal_axes(kind: str, fields: dict[str, Any]) -> None:
    model = network(kind, **fields)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = in_axes(model, Width(), Head(of="dim"))
    assert apart(model, made) < 1e-4
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    gathered = stream_of(made)
    assert float((gathered - torch.diag(gathered.diagonal())).abs().max()) < 1e-3 * float(gathered.max())
    assert (gathered.diagonal().diff() < 1e-3).all()  # the most important first


def test_values_in_one_weight_with_grouped_queries_and_keys_are_turned_by_key_value_head() -> None:
    model = network("Phi3", use_cache=False)
    made = in_axes(model, Head(of="value"))
    name = "model.layers.0.self_attn.qkv_proj.weight"  # 24 rows of queries, 12 of keys, 12 of values
    before, after = (it.get_parameter(name).detach() for it in (model, made))
    assert torch.equal(before[:36], after[:36]) and not torch.allclose(before[36:], after[36:], atol=1e-3)
    assert apart(model, made) < 1e-4


def test_it_is_the_same_each_time() -> None:
    model = network("Llama")
    one, two = (in_axes(model, Width(), Head(of="dim")).state_dict() for _ in range(2))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def stream_of(model: nn.Module) -> Tensor:
    """Second moments of what the norms give, summed."""
    found: list[Tensor] = []
    norms = [m for n, m in model.named_modules() if n.endswith("norm") and "q_norm" not in n and "k_norm" not in n]
    hooks = [m.register_forward_hook(lambda m, a, out: found.append(out.flatten(0, -2))) for m in norms]
    with torch.no_grad():
        model(input_ids=IDS)
    for hook in hooks:
        hook.remove()
    return sum((x.T @ x for x in found), torch.zeros(()))


def test_a_tied_embedding_behind_a_scale_is_untied() -> None:
    model = network("Llama", tie_word_embeddings=True)
    made = in_axes(model, Width())
    assert made.lm_head.weight is not made.model.embed_tokens.weight
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with torch.no_grad():
        model.model.norm.weight.fill_(1)
    made = in_axes(model, Width())  # without a scale it need not be
    assert made.lm_head.weight is made.model.embed_tokens.weight and apart(model, made) < 1e-4


def test_what_is_left_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="secateurs.turning"):
        in_axes(network("Llama"), Width(), Head(of="dim"))
        in_axes(network("GPT2", n_embd=24, n_layer=1, n_head=3, n_positions=16), Width(), Head(of="dim"))
    said = caplog.text
    assert "model.head_dim keeps its units: the buffer model.rotary_emb.inv_freq carries it" in said
    assert "c_attn.head_dim keeps its units: no weight reads it" in said
    assert (
        "transformer.width keeps its units: turned, the network computes something else; a statistic is taken" in said
    )


@pytest.mark.parametrize("kind", ["GPT2", "Gemma2", "Olmo2"])
def test_streams_that_no_rotation_keeps_are_refused(kind: str) -> None:
    sizes = {"n_embd": 24, "n_layer": 1, "n_head": 3, "n_positions": 16} if kind == "GPT2" else {"head_dim": 6}
    with pytest.raises(SecateursError, match=r"nothing can be turned to another basis \(.*width: "):
        in_axes(network(kind, **sizes), Width())


def test_nothing_to_turn_is_refused() -> None:
    with pytest.raises(SecateursError, match="the structures prune no dim of head_dim or width"):
        in_axes(network("Llama"), Neuron())


def test_what_structures_do_not_find_is_said_with_its_reason() -> None:
    net, inputs = nn.Linear(4, 2), (torch.randn(3, 4),)
    task = Task("line", inputs, {"train": [inputs]}, lambda _, batch: batch[0].mean(), None, Loss())  # type: ignore[arg-type]
    with pytest.raises(SecateursError, match=r"no free dims for width; frozen is .*\(an output of the model\)"):
        turned(net, task, Principal(), (Width(),), 1, trace(net, inputs))


def test_half_precision_stays() -> None:
    model = network("Llama").bfloat16()
    made = in_axes(model, Width())
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16} and apart(model, made) < 0.1


def test_values_of_an_encoder_and_a_decoder() -> None:
    model = network("T5", d_model=24, d_kv=6, d_ff=40, num_layers=1, num_heads=4, decoder_start_token_id=0)
    task = task_of(model, decoder_input_ids=IDS[:2, :5])
    made, _ = turned(model, task, Principal(), [Head(of="dim")], 1, trace(model, task.example_inputs))
    inputs: Any = task.example_inputs
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs)[0], made(**inputs)[0], rtol=1e-3, atol=1e-4)
    for name in ("encoder.block.0.layer.0.SelfAttention", "decoder.block.0.layer.1.EncDecAttention"):
        assert not torch.equal(model.get_parameter(f"{name}.v.weight"), made.get_parameter(f"{name}.v.weight"))
        assert torch.equal(model.get_parameter(f"{name}.q.weight"), made.get_parameter(f"{name}.q.weight"))


# ------------------------------------------------------------------------------------------- networks of one's own


class Root(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


class Own(nn.Module):
    """A residual stream between norms of one's own; ``spoilt`` by something between."""

    def __init__(self, spoilt: Callable[[Tensor], Tensor] = torch.clone) -> None:
        super().__init__()
        self.spoilt = spoilt
        self.norm, self.last = Root(8), Root(8)
        self.into, self.up, self.down, self.out = (nn.Linear(a, b) for a, b in ((5, 8), (8, 12), (12, 8), (8, 3)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        x = x + self.down(torch.relu(self.up(self.norm(x))))
        return self.out(self.last(self.spoilt(x)))


def own_task() -> Task:
    batches = [torch.randn(20, 5, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    return Task("own", (batches[0][:4],), {"train": batches}, lambda m, b: m(b).mean(), None, Loss())  # type: ignore[arg-type]


def test_a_stream_of_ones_own() -> None:
    model, task = trained_(Own()), own_task()
    made, _ = turned(model, task, Principal(), [Width()], 3, trace(model, task.example_inputs))
    x = torch.randn(6, 5)
    torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)
    assert (made.norm.gain == 1).all() and not torch.equal(made.into.bias, model.into.bias)


@pytest.mark.parametrize("spoilt", [torch.relu, torch.sigmoid], ids=["relu", "sigmoid"])
def test_nothing_nonlinear_may_lie_between(spoilt: Callable[[Tensor], Tensor]) -> None:
    model, task = trained_(Own(spoilt)), own_task()
    with pytest.raises(SecateursError, match="turned, the network computes something else"):
        turned(model, task, Principal(), [Width()], 3, trace(model, task.example_inputs))


# --------------------------------------------------------------------------------------------------------- to the end


SLICED = Recipe.from_dict({"structure": ["width"], "basis": "principal", "criterion": "magnitude",
                           "allocation": "uniform", "calibration_batches": 1})  # fmt: skip


def test_a_sliced_stream_of_low_rank_loses_nothing_but_its_scale() -> None:
    model = network("Llama", tie_word_embeddings=False)
    with torch.no_grad():  # a stream that uses 16 of its 24 directions
        low = torch.linalg.qr(torch.randn(24, 16))[0]
        project = low @ low.T
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ project)
        for layer in model.model.layers:
            for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
                linear.weight.copy_(project @ linear.weight)
    out = prune(model, task_of(model), SLICED, 1 / 3)
    small: Any = out.model
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            if "norm" in name:
                parameter.mul_((24 / 16) ** 0.5)  # the mean is of 16 squares, not of 24
    assert small.model.embed_tokens.weight.shape == (64, 16) and apart(model, small) < 1e-3


def test_values_of_low_rank_lose_nothing() -> None:
    model = network("Llama", head_dim=8, use_cache=False)
    values = model.model.layers[0].self_attn.v_proj.weight
    with torch.no_grad():  # two heads of values that use five of their eight directions each
        values.copy_(torch.cat([torch.randn(8, 5) @ torch.randn(5, 24) / 4 for _ in range(2)]))
    recipe = SLICED.to_dict() | {"structure": [{"head": {"of": "value"}}], "criterion": "leverage", "rewrite": True}
    out = prune(model, task_of(model), Recipe.from_dict(recipe), 3 / 8)
    assert [keep.tolist() for keep in out.plan.keep.values()] == [[True] * 5 + [False] * 3]  # of every head
    x = IDS[:2, :8]
    with torch.no_grad():
        wanted, got = model(input_ids=x).logits, out.model(input_ids=x)
    got = got if isinstance(got, Tensor) else got[0] if isinstance(got, tuple) else got["logits"]
    assert float((wanted - got).abs().max() / wanted.abs().max()) < 1e-3


def test_an_artifact_and_a_directory_come_back(tmp_path: Path) -> None:
    model = network("Llama", tie_word_embeddings=True)
    task = task_of(model)
    out = prune(model, task, SLICED, 1 / 3)
    build = Transformers.of(model)
    save(tmp_path / "artifact", out, recipe=SLICED, manifest={}, build=build)
    assert apart(out.model, load(tmp_path / "artifact")) == 0
    save_pretrained(tmp_path / "plain", out.model, build, task.example_inputs)
    again: Any = type(model).from_pretrained(tmp_path / "plain")
    assert not again.config.tie_word_embeddings and again.config.hidden_size == 16
    assert apart(out.model, again) < 1e-5


def test_pruning_goes_on_in_the_same_basis() -> None:
    model = network("Llama")
    task = task_of(model)
    first = prune(model, task, SLICED, 0.25)
    second = prune(model, task, SLICED, 0.5, start=first)
    once = prune(model, task, SLICED, 0.5)
    early, late, straight = (next(iter(pruned.plan.keep.values())) for pruned in (first, second, once))
    assert (late <= early).all() and torch.equal(late, straight)
    assert apart(second.model, once.model) < 1e-6
