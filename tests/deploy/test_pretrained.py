"""A pruned transformers model is written so that transformers alone loads it, or it is said why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from networks import NETWORKS, groups_of
from secateurs import surgery
from secateurs.deploy import Transformers
from secateurs.deploy.pretrained import fitted, save_pretrained
from secateurs.graph import trace
from secateurs.graph.trace import forward
from secateurs.structures.layer import Layer
from secateurs.types import Inputs, Plan, SecateursError

UNIFORM: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "bert": (("ffn",), {"intermediate_size": 15}),
    "llama": (("ffn", "kv_heads"), {"intermediate_size": 15, "num_attention_heads": 3, "num_key_value_heads": 1}),
    "gpt2": (("neurons", "ffn"), {"n_inner": 72}),
    "vit": (("ffn",), {"intermediate_size": 15}),
    "t5": (("ffn", "heads", "head_dim"), {"d_kv": 3, "d_ff": 15, "num_heads": 2}),
    "resnet_bottleneck": (("channels",), {"embedding_size": 5, "hidden_sizes": [9, 12]}),
}


def pruned(name: str, endings: tuple[str, ...], uneven: bool = False) -> tuple[nn.Module, nn.Module, Inputs]:
    """The dense network and the smaller one; every dim whose name ends so loses a quarter, at least one."""
    model, inputs = NETWORKS[name].build(), NETWORKS[name].inputs(2, NETWORKS[name].length)
    graph = trace(model, inputs)
    groups = [group for group in groups_of(graph) if group.name.rstrip(".0123456789").endswith(endings)]
    assert groups
    keep = {g.name: torch.arange(g.n_units) % g.block >= max(1, g.block // 4) for g in groups}
    if uneven:
        keep[groups[0].name][:] = True
    return model, surgery.shrink(model, groups, Plan(keep), graph, inputs).model, inputs


@pytest.mark.parametrize("name", UNIFORM)
def test_a_config_is_found_for_a_uniform_pruning(name: str) -> None:
    endings, fields = UNIFORM[name]
    model, small, inputs = pruned(name, endings)
    found: Any = fitted(small, Transformers.of(model), inputs)
    before, after = model.config.to_dict(), found.config.to_dict()
    assert {field: after[field] for field in after if after[field] != before[field]} == fields
    fresh = NETWORKS[name].inputs(3, NETWORKS[name].other_length)
    assert torch.allclose(forward(found, fresh)[0], forward(small, fresh)[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma2"])
def test_whole_blocks_that_went_are_a_shorter_config(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "vocab_size": 40, "head_dim": 4}
    config = getattr(transformers, f"{kind}Config")(num_attention_heads=4, num_key_value_heads=2, **sizes)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    inputs = {"input_ids": torch.randint(0, 40, (2, 9))}
    graph = trace(model, inputs)
    groups = Layer()(graph)
    plan = Plan({group.name: torch.tensor([True, False, True, True]) for group in groups})
    small = surgery.shrink(model, groups, plan, graph, inputs).model
    save_pretrained(tmp_path / "plain", small, Transformers.of(model), inputs)
    found = type(model).from_pretrained(tmp_path / "plain").eval()
    assert len(found.model.layers) == found.config.num_hidden_layers == 3
    said = getattr(config, "layer_types", None)
    assert getattr(found.config, "layer_types", None) == (said and [said[i] for i in (0, 2, 3)])
    assert torch.equal(forward(found, inputs)[0], forward(small, inputs)[0])


LOAD = """
import sys, torch, transformers
model = getattr(transformers, sys.argv[2]).from_pretrained(sys.argv[1]).eval()
torch.save(model(**torch.load(f"{sys.argv[1]}/inputs.pt", weights_only=True))[0], f"{sys.argv[1]}/out.pt")
print("secateurs" in sys.modules)
"""


def test_transformers_loads_the_directory_in_a_new_process(tmp_path: Path) -> None:
    model, small, inputs = pruned("bert", ("ffn",))
    save_pretrained(tmp_path / "plain", small, Transformers.of(model), inputs)
    torch.save(inputs, tmp_path / "plain" / "inputs.pt")
    command = [sys.executable, "-c", LOAD, tmp_path / "plain", type(model).__name__]
    seen = subprocess.run(command, check=False, capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.strip() == "False"
    found = torch.load(tmp_path / "plain" / "out.pt", weights_only=True)
    assert torch.allclose(found, forward(small, inputs)[0], atol=1e-6)


@pytest.mark.parametrize(("ending", "uneven", "why"), [("heads", False, "attention"), ("ffn", True, "layer.")])
def test_what_no_config_says_is_one_clear_line(tmp_path: Path, ending: str, uneven: bool, why: str) -> None:
    """The size of a BERT head is no field but a quotient; and a config has one size for all layers."""
    model, small, inputs = pruned("bert", (ending,), uneven)
    with pytest.raises(SecateursError, match=rf"no config of Bert\w+ makes this network \(none fits .*{why}") as caught:
        save_pretrained(tmp_path / "plain", small, Transformers.of(model), inputs)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    model = NETWORKS["bert"].build()
    with pytest.raises(SecateursError, match="exists"):
        save_pretrained(tmp_path, model, Transformers.of(model), {})
