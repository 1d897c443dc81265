"""Torch's own attention with fewer heads than fill its width.

``nn.MultiheadAttention`` takes the width of what it reads for the width of its heads together: no attribute tells the
two apart, so no repair can. A module that lost heads becomes a ``NarrowAttention``: the same tensors under the same
names, the same arguments and results, with its sizes read from the tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Three = tuple[Tensor, Tensor, Tensor]


class NarrowAttention(nn.MultiheadAttention):
    """Multi-head attention (Vaswani et al. 2017) whose heads together are as wide as its projections say.

    Made by ``narrow_``, never built. ``head_dim`` is the width of a head; arguments, results and their shapes are
    those of ``nn.MultiheadAttention``.
    """

    def forward(  # noqa: PLR0913, PLR0917 - the signature is torch's
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the attention weights where they are wanted; ``is_causal`` is a hint beside ``attn_mask``."""
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint on attn_mask: give the mask too")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0 if self.batch_first else 1) for x in (query, key, value))
            key_padding_mask = key_padding_mask if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        q, k, v = self._heads(query, key, value)
        mask = self._mask(key_padding_mask, attn_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            out = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), weights if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> Three:
        """Queries, keys and values, each ``(batch, heads, length, head_dim)``."""
        packed: Tensor | None = self.in_proj_weight
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        weights = separate if packed is None else packed.chunk(3)
        bias: Tensor | None = self.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        projected = [F.linear(*x) for x in zip((query, key, value), weights, biases, strict=True)]
        q, k, v = projected if self.batch_first else [x.transpose(0, 1) for x in projected]
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (torch.cat((x, b.expand(len(x), 1, -1)), 1) for x, b in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        q, k, v = (x.reshape(*x.shape[:2], -1, self.head_dim).transpose(1, 2) for x in (q, k, v))
        return q, k, v

    def _mask(self, padding: Tensor | None, mask: Tensor | None, q: Tensor) -> Tensor | None:
        """One mask to add to the scores; positions that were added to the keys are seen."""
        if mask is not None:
            mask = _additive(mask, q)
            mask = mask.reshape(-1, q.shape[1], *mask.shape[1:]) if mask.dim() == 3 else mask
        if padding is not None:
            padding = _additive(padding, q)[:, None, None, :]
            mask = padding if mask is None else mask + padding
        added = int(self.bias_k is not None) + int(self.add_zero_attn)
        return mask if mask is None or not added else F.pad(mask, (0, added))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def narrow_(model: nn.Module) -> None:
    """Make every attention of torch's own a ``NarrowAttention``, if the heads of one do not fill its width.

    All of them, as torch asks one layer of a stack whether all of the stack can take its fast path, which they cannot.
    """
    found = [module for module in model.modules() if type(module) is nn.MultiheadAttention]
    if any(module.out_proj.weight.shape[0] != module.out_proj.weight.shape[1] for module in found):
        for module in found:
            module.__class__ = NarrowAttention
            module._qkv_same_embed_dim = False  # torch's word for it: weights of its own kind, and no fast path
        for stack in (module for module in model.modules() if isinstance(module, nn.TransformerEncoder)):
            stack.use_nested_tensor = False  # which only the fast path takes
