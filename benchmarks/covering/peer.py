"""Torch-Pruning, by the generic call of its README, and with what its transformer examples add to it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from architectures import ARCHITECTURES
from oracle import masked_reference
from torch import Tensor, nn

from covering.values import call, difference, distinct_, removed, tensors

SEPARATE = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("query_proj", "key_proj", "value_proj"),
    ("in_proj_q", "in_proj_k", "in_proj_v"),
)
FUSED = ("qkv_proj", "qkv", "query_key_value", "c_attn", "Wqkv", "in_proj")
OF_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
OF_WIDTH = ("all_head_size", "embed_dim", "inner_dim", "dim", "hidden_size")


def peer(name: str, ratio: float, variant: str, tell: Callable[..., None]) -> None:
    """Prune one architecture; ``variant`` is plain, heads (they are given) or eager (so too, attention not fused)."""
    architecture = ARCHITECTURES[name]
    torch.manual_seed(0)
    dense = distinct_(architecture.build())
    inputs, fresh = architecture.inputs(2, 12), architecture.inputs(3, 16)
    small = copy.deepcopy(dense)
    if variant == "eager" and hasattr(small, "set_attn_implementation"):
        small.set_attn_implementation("eager")
    start = time.process_time()
    _prune(small, inputs, ratio, heads=variant != "plain")
    tell(seconds=time.process_time() - start, removed=removed(dense, small))
    with torch.no_grad():
        mine = call(small.eval(), fresh)
        tell(runs=True)
        tell(difference=difference(mine, call(masked_reference(dense, small), fresh)))


def _prune(model: nn.Module, inputs: Any, ratio: float, *, heads: bool) -> None:
    import torch_pruning as tp

    settings: dict[str, Any] = {}
    found = list(_attentions(model)) if heads else []
    if found:
        numbers = {layer: n for _, layers in found for layer, n in layers.items()}
        settings = {
            "num_heads": numbers,
            "prune_num_heads": True,
            "prune_head_dims": False,
            "head_pruning_ratio": ratio,
        }
    if heads:
        settings["out_channel_groups"] = {m.gate_up_proj: 2 for m in model.modules() if _is_linear(m, "gate_up_proj")}
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs=inputs,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=_makers_of_outputs(model, inputs),
        output_transform=lambda out: sum(t.sum() for t in tensors(out) if t.requires_grad),
        **settings,
    )
    pruner.step()
    for attention, layers in found:
        _write_(attention, {layer: pruner.num_heads[layer] for layer in layers})


def _attentions(model: nn.Module) -> Iterator[tuple[nn.Module, dict[nn.Module, int]]]:
    """Each attention with its projections and their heads, as a user of the tool writes them down for a model."""
    config = getattr(model, "config", None)
    for module in model.modules():
        n = _number(module, OF_HEADS) or _number(config, OF_HEADS)
        kv = _number(module, ("num_key_value_heads",)) or _number(config, ("num_key_value_heads",)) or n
        for names in SEPARATE:
            if n and all(_is_linear(module, name) for name in names):
                yield module, dict(zip((getattr(module, name) for name in names), (n, kv, kv), strict=True))
        for name in FUSED:
            if n and _is_linear(module, name):
                yield module, {getattr(module, name): n}


def _is_linear(module: nn.Module, name: str) -> bool:
    layer = getattr(module, name, None)
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"


def _number(holder: Any, names: tuple[str, ...]) -> int | None:
    return next((n for name in names if isinstance(n := getattr(holder, name, None), int) and n > 0), None)


def _write_(attention: nn.Module, heads: dict[nn.Module, int]) -> None:
    """The attributes of an attention after its heads went, as the examples rewrite them after pruning."""
    first, *others = heads.items()
    n, kv = first[1], others[0][1] if others else first[1]
    for name in OF_HEADS:
        if isinstance(getattr(attention, name, None), int):
            setattr(attention, name, n)
    for name in OF_WIDTH:
        if isinstance(getattr(attention, name, None), int) and isinstance(first[0], nn.Linear) and others:
            setattr(attention, name, first[0].out_features)
    if isinstance(getattr(attention, "num_key_value_heads", None), int):
        attention.num_key_value_heads = kv
    if isinstance(getattr(attention, "num_key_value_groups", None), int):
        attention.num_key_value_groups = n // kv


def _makers_of_outputs(model: nn.Module, inputs: Any) -> list[nn.Module]:
    """The layers whose output is an output of the model; they keep their size."""
    made: dict[int, list[nn.Module]] = {}

    def note(module: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            made.setdefault(out.untyped_storage().data_ptr(), []).append(module)
            kept.append(out)

    kept: list[Tensor] = []  # their memory must not be given to another tensor meanwhile
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.no_grad():
        found = call(model, inputs)
    for hook in hooks:
        hook.remove()
    return [layer for out in found for layer in made.get(out.untyped_storage().data_ptr(), [])]
