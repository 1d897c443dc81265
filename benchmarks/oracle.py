"""The oracle on three networks, ours and Torch-Pruning's: does the smaller network compute what the masked one does?

Each tool removes about the same fraction of the units of every structure it finds. (Torch-Pruning takes from the width
of the residual stream as well, so at the same fraction it removes more parameters.) What is gone is then read off the
tensors, in the same way for each tool: all values of the network are distinct, so a value that is still there names its
place. The reference is the dense network with everything else set to zero, where norms take their statistics over what
stays. The smaller network must give the reference's outputs.

Run it from the repository root: ``python benchmarks/oracle.py``. Torch-Pruning is needed by this file alone:
``pip install torch-pruning==1.6.1 --no-deps``.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
Prune = Callable[[nn.Module, Inputs, float], nn.Module]


@dataclass(frozen=True)
class Row:
    """One tool on one network; ``difference`` is the largest over all outputs, in double precision."""

    network: str
    tool: str
    removed: float | None = None
    attention_removed: float | None = None
    runs: bool = False
    difference: float | None = None
    seconds: float | None = None
    error: str | None = None


# ------------------------------------------------------------------------------------------------------- networks


def bert() -> tuple[nn.Module, Inputs]:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 512}
    config = BertConfig(vocab_size=200, max_position_embeddings=64, num_labels=3, **sizes)
    return BertForSequenceClassification(config), {"input_ids": torch.randint(0, 200, (2, 12))}


def llama() -> tuple[nn.Module, Inputs]:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 512}
    config = LlamaConfig(vocab_size=200, head_dim=16, num_key_value_heads=4, use_cache=False, **sizes)
    return LlamaForCausalLM(config), {"input_ids": torch.randint(0, 200, (2, 12))}


def resnet() -> tuple[nn.Module, Inputs]:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128], depths=[2, 2, 2], layer_type="basic", num_labels=10
    )
    return ResNetForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


NETWORKS = {"BERT (encoder)": bert, "LLaMA (decoder, GQA 12/4)": llama, "ResNet (basic blocks)": resnet}


def distinct_values_(model: nn.Module) -> None:
    """Give every entry of every float tensor a value of its own, of a size that keeps the outputs in range."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() == 1:
                tensor.add_(0.1 * torch.randn_like(tensor))
            else:
                tensor.copy_(torch.randn_like(tensor) / tensor[0].numel() ** 0.5)


# ---------------------------------------------------------------------------------------------------------- tools


def torch_pruning(model: nn.Module, inputs: Inputs, ratio: float, *, heads: bool) -> nn.Module:
    """The generic call of its README; with ``heads``, what its transformer examples add to it.

    With heads given it traces eager attention, since it fails on fused attention with grouped queries.
    """
    import torch_pruning as tp

    outputs = {"classifier", "lm_head", "score"}
    settings: dict[str, Any] = {"num_heads": {}, "out_channel_groups": {}, "in_channel_groups": {}}
    attentions = _attentions(model) if heads else []
    if attentions:
        model.set_attn_implementation("eager")
        settings |= {"prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": ratio}
        settings["num_heads"] = {layer: n for _, layers in attentions for layer, n in layers.items()}
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs=inputs,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[m for n, m in model.named_modules() if n.split(".")[0] in outputs],
        output_transform=lambda output: output.logits,
        **settings,
    )
    pruner.step()
    for attention, layers in attentions:
        _write_heads_(attention, [pruner.num_heads[layer] for layer in layers], list(layers))
    return model


def _attentions(model: nn.Module) -> list[tuple[nn.Module, dict[nn.Module, int]]]:
    """Each attention with its projections and their heads, as a user of the tool must write for each model."""
    config: Any = getattr(model, "config", None)
    found = []
    for module in model.modules():
        if hasattr(module, "query") and hasattr(module, "key"):
            heads = config.num_attention_heads
            found.append((module, {module.query: heads, module.key: heads, module.value: heads}))
        elif hasattr(module, "q_proj"):
            heads, kv = config.num_attention_heads, config.num_key_value_heads
            found.append((module, {module.q_proj: heads, module.k_proj: kv, module.v_proj: kv}))
    return found


def _write_heads_(attention: nn.Module, heads: list[int], layers: list[nn.Module]) -> None:
    if hasattr(attention, "all_head_size"):
        attention.num_attention_heads = heads[0]
        attention.all_head_size = layers[0].out_features
        attention.attention_head_size = attention.all_head_size // heads[0]
    else:
        attention.num_key_value_groups = heads[0] // heads[1]


def ours(model: nn.Module, inputs: Inputs, ratio: float) -> nn.Module:
    """The same fraction of every channel, head and neuron dim that is free, by magnitude; the residual width stays."""
    from secateurs import Recipe, Task, prune
    from secateurs.measures.parameters import Parameters

    def unused(model: nn.Module, batch: object) -> Any:
        raise NotImplementedError

    parts = {"structure": ["channel", "head", "neuron"], "criterion": "magnitude", "allocation": "uniform"}
    task = Task("oracle", inputs, {"train": ()}, loss=unused, predict=unused, quality=Parameters())
    return prune(model, task, Recipe.from_dict(parts), ratio).model


# ------------------------------------------------------------------------------------------------- the instrument


def kept_places(dense: Tensor, small: Tensor) -> Tensor:
    """Where the values of ``small`` stand in ``dense``: bool, dense's shape."""
    if dense.shape == small.shape:
        return torch.ones_like(dense, dtype=torch.bool)
    return torch.isin(dense, small)


def masked_reference(dense: nn.Module, small: nn.Module) -> nn.Module:
    """The dense network with what ``small`` lacks set to zero; norms see only what stays."""
    masked = copy.deepcopy(dense)
    state, after = masked.state_dict(), small.state_dict()
    keeps = {n: kept_places(t, after[n]) for n, t in state.items() if t.is_floating_point()}
    for name, keep in keeps.items():
        expected = after[name].numel()
        if int(keep.sum()) != expected:
            raise ValueError(f"{name}: {int(keep.sum())} of {expected} values found again")
        state[name].mul_(keep)
    for name, module in masked.named_modules():
        keep = keeps.get(f"{name}.weight")
        kind = type(module).__name__.lower()
        if keep is not None and keep.dim() == 1 and not keep.all() and "norm" in kind and "batchnorm" not in kind:
            module.forward = partial(_norm_of_kept, _cut(module, keep), keep)
    return masked


def _cut(norm: nn.Module, keep: Tensor) -> nn.Module:
    small = copy.deepcopy(norm)
    for name, parameter in list(small.named_parameters(recurse=False)):
        setattr(small, name, nn.Parameter(parameter.detach()[keep]))
    if hasattr(small, "normalized_shape"):
        small.normalized_shape = (int(keep.sum()),)
    for name in ("num_channels", "num_features"):
        if hasattr(small, name):
            setattr(small, name, int(keep.sum()))
    return small


def _norm_of_kept(norm: nn.Module, keep: Tensor, x: Tensor) -> Tensor:
    places = (
        (slice(None), keep) if isinstance(norm, nn.GroupNorm | nn.modules.instancenorm._InstanceNorm) else (..., keep)
    )
    y = torch.zeros_like(x)
    y[places] = norm(x[places])
    return y


# ----------------------------------------------------------------------------------------------------- measurement


def measure(network: str, tool: str, prune: Prune, ratio: float) -> Row:
    torch.manual_seed(0)
    dense, inputs = NETWORKS[network]()
    dense = dense.double().eval()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    distinct_values_(dense)
    start = time.process_time()
    try:
        small = prune(copy.deepcopy(dense), inputs, ratio).eval()
    except Exception as error:
        return Row(network, tool, error=_line(error))
    row = {"seconds": time.process_time() - start, "removed": _removed(dense, small)}
    row["attention_removed"] = _removed(dense, small, part="att")
    try:
        with torch.no_grad():
            after = small(**inputs).logits
    except Exception as error:
        return Row(network, tool, **row, error=_line(error))
    try:
        with torch.no_grad():
            reference = masked_reference(dense, small)(**inputs).logits
            difference = float((after - reference).abs().max())
    except Exception as error:
        return Row(network, tool, **row, runs=True, error=_line(error))
    return Row(network, tool, **row, runs=True, difference=difference)


def _removed(dense: nn.Module, small: nn.Module, part: str = "") -> float | None:
    """Fraction of parameters removed; of those with ``part`` in their name. None where there are none."""
    before = sum(p.numel() for n, p in dense.named_parameters() if part in n)
    after = sum(p.numel() for n, p in small.named_parameters() if part in n)
    return 1 - after / before if before else None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


TOOLS: dict[str, Prune] = {
    "secateurs": ours,
    "torch-pruning, plain": partial(torch_pruning, heads=False),
    "torch-pruning, heads given": partial(torch_pruning, heads=True),
}


def table(rows: list[Row]) -> str:
    head = ("network", "tool", "removed", "of attention", "runs", "|masked - small|", "CPU s")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    errors = [f"{row.network}, {row.tool}: {row.error}" for row in rows if row.error]
    return "\n".join([*text, *([""] if errors else []), *errors])


def _cells(row: Row) -> tuple[str, ...]:
    def show(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        row.network,
        row.tool,
        show(row.removed, ".1%"),
        show(row.attention_removed, ".1%"),
        "yes" if row.runs else "no",
        show(row.difference, ".1e"),
        show(row.seconds, ".2f"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.3, help="fraction of the units of each structure to remove")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "oracle.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = [measure(network, tool, prune, options.ratio) for network in NETWORKS for tool, prune in TOOLS.items()]
    rows = [row for row in rows if row.attention_removed is not None or not row.tool.endswith("heads given")]
    print(table(rows))
    machine = {"processor": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    document = {"ratio": options.ratio, "machine": machine, "rows": [asdict(row) for row in rows]}
    options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
