"""Torch's attention with fewer heads computes what it computes with the others masked, in every mode it has."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graph.rules.tracing import see
from networks import trained_
from secateurs.attention import NarrowAttention, narrow_

X, Y, Z = torch.randn(2, 5, 12), torch.randn(2, 7, 12), torch.randn(2, 7, 6)
PADDING = torch.zeros(2, 7, dtype=torch.bool)
PADDING[0, -2:] = True
CAUSAL = torch.ones(5, 7, dtype=torch.bool).triu(1)

CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without weights": {"need_weights": False},
    "weights of each head": {"average_attn_weights": False},
    "padding": {"key_padding_mask": PADDING},
    "added padding": {"key_padding_mask": PADDING.float() * -2.0, "need_weights": False},
    "mask": {"attn_mask": CAUSAL},
    "added mask and padding": {"attn_mask": torch.randn(5, 7), "key_padding_mask": PADDING.float() * -9.0},
    "a mask of each head": {"attn_mask": torch.randn(8, 5, 7), "need_weights": False},
}
KINDS: dict[str, dict[str, Any]] = {
    "packed": {},
    "no bias": {"bias": False},
    "added keys": {"add_bias_kv": True, "add_zero_attn": True},
}


def dense(**settings: Any) -> nn.MultiheadAttention:
    return trained_(nn.MultiheadAttention(12, 4, **{"batch_first": True, **settings}))  # type: ignore[return-value]


def narrow(layer: nn.MultiheadAttention) -> nn.MultiheadAttention:
    layer = copy.deepcopy(layer)
    layer.__class__ = NarrowAttention
    return layer


def agree(mine: tuple[Tensor, Tensor | None], theirs: tuple[Tensor, Tensor | None]) -> None:
    torch.testing.assert_close(mine[0], theirs[0])
    torch.testing.assert_close(mine[1], theirs[1])


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_with_all_its_heads_it_is_torchs_own(kind: str, call: str) -> None:
    layer = dense(**KINDS[kind])
    agree(narrow(layer)(X, Y, Y, **CALLS[call]), layer(X, Y, Y, **CALLS[call]))


def test_keys_and_values_of_other_widths() -> None:
    layer = dense(kdim=12, vdim=6)
    agree(narrow(layer)(X, Y, Z), layer(X, Y, Z))


@pytest.mark.parametrize("batch_first", [True, False])
def test_one_sequence_without_a_batch(batch_first: bool) -> None:
    layer = dense(batch_first=batch_first)
    settings = {"key_padding_mask": PADDING[0]}
    agree(narrow(layer)(X[0], Y[0], Y[0], **settings), layer(X[0], Y[0], Y[0], **settings))


def test_sequence_first() -> None:
    layer = dense(batch_first=False)
    x, y = X.transpose(0, 1), Y.transpose(0, 1)
    agree(narrow(layer)(x, y, y, key_padding_mask=PADDING), layer(x, y, y, key_padding_mask=PADDING))


def test_a_hint_without_a_mask_is_refused_as_torch_refuses_it() -> None:
    with pytest.raises(RuntimeError, match="hint"):
        narrow(dense())(X, X, X, is_causal=True)


def test_only_a_network_with_missing_heads_is_changed() -> None:
    model = nn.ModuleList([dense(), dense()])
    narrow_(model)
    assert {type(layer) for layer in model} == {nn.MultiheadAttention}
    first: Any = model[0]
    first.in_proj_weight.data = first.in_proj_weight.data.view(3, 12, 12)[:, :9].reshape(27, 12)
    first.in_proj_bias.data = first.in_proj_bias.data.view(3, 12)[:, :9].flatten()
    first.out_proj.weight.data = first.out_proj.weight.data[:, :9]
    narrow_(model)
    assert {type(layer) for layer in model} == {NarrowAttention}
    assert first(X, X, X)[0].shape == X.shape
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    again = torch.load(stored, weights_only=False)[0]
    agree(copy.deepcopy(again)(X, X, X), first(X, X, X))


def test_dropout_in_training() -> None:
    layer = narrow(dense(dropout=0.5)).train()
    one, other = (layer(X, X, X)[0] for _ in range(2))
    assert not torch.allclose(one, other)
    one.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_stack_that_packs_padded_sequences_loses_heads() -> None:
    def forward(m: Any, x: Tensor, padding: Tensor) -> Tensor:
        seen = m.stack(x, src_key_padding_mask=padding) * ~padding[..., None]
        return m.out(seen.sum(1))  # type: ignore[no-any-return]

    layer = nn.TransformerEncoderLayer(12, 4, 10, batch_first=True)
    it = see(forward, Y, PADDING, stack=nn.TransformerEncoder(layer, 2), out=nn.Linear(12, 2))
    assert [it.free(f"stack.layers.{i}.self_attn.out_proj.weight", 1) for i in (0, 1)] == [[4], [4]]
    assert len(it.proven()) == 4
