"""A build makes the dense network anew, and runs nobody else's code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from torch import nn

from secateurs.deploy import Function, Transformers
from secateurs.types import SecateursError

CONFIG = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6, "vocab_size": 11}


def test_a_function_of_a_module_and_of_a_file(tmp_path: Path) -> None:
    assert isinstance(Function("torch.nn:Linear", {"in_features": 2, "out_features": 3})(), nn.Linear)
    (tmp_path / "net.py").write_text("from torch import nn\ndef make(width):\n    return nn.Linear(width, 1)\n")
    made = Function(f"{tmp_path}/net.py:make", {"width": 5})()
    assert isinstance(made, nn.Linear) and made.in_features == 5


@pytest.mark.parametrize("target", ["nowhere:f", "torch.nn:Nothing", "missing.py:f", "torch.nn", ":f", ""])
def test_what_cannot_be_imported_is_refused(target: str) -> None:
    with pytest.raises(SecateursError, match=target.partition(":")[0] or "names no function"):
        Function(target)()


def test_a_function_must_return_a_module() -> None:
    with pytest.raises(SecateursError, match="returned int"):
        Function("builtins:int")()


@pytest.mark.parametrize("name", ["conv_net", "vit"])
def test_the_embedded_networks_are_ours(name: str) -> None:
    build = Function(f"secateurs.tasks.mnist:{name}")
    assert build.ours and isinstance(build(), nn.Module)


@pytest.mark.parametrize(
    "target",
    [
        "os:system",
        "secateurs.recipe:part",
        "secateurs.tasks.mnist:stratified",
        "secateurs.tasks.mnist:mnist",
        "secateurs.types:Plan",
    ],
)
def test_only_builders_that_come_with_secateurs_are_ours(target: str) -> None:
    assert not Function(target).ours


def test_numbers_that_json_lacks_come_back() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_heads": 4, "head_dim": 8, "n_groups": 1, "num_hidden_layers": 1, "vocab_size": 11}
    model = transformers.Mamba2Model(transformers.Mamba2Config(state_size=4, time_step_limit=(0.0, math.inf), **sizes))
    written = json.dumps(Transformers.of(model).config, allow_nan=False)
    made = Transformers("Mamba2Model", json.loads(written))()
    assert tuple(made.config.time_step_limit) == (0.0, math.inf)


def test_a_network_inside_that_has_no_fused_attention() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1], "layer_type": "basic"}
    backbone = transformers.ResNetConfig(**sizes, out_features=["stage2"])
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone=None, backbone_config=backbone, d_model=8, num_queries=2,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    made = Transformers.of(transformers.DetrForObjectDetection(config))()
    assert type(made) is transformers.DetrForObjectDetection


def test_transformers_class_and_config() -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.BertModel(transformers.BertConfig(**CONFIG, attn_implementation="eager"))
    build = Transformers.of(model)
    made = build()
    assert type(made) is transformers.BertModel
    assert made.config._attn_implementation == "eager"
    assert {n: p.shape for n, p in made.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["BertConfig", "Nothing", "pipeline", "PretrainedConfig"])
def test_only_models_are_classes_to_build(name: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(SecateursError, match=name):
        Transformers(name, CONFIG)()


def test_attention_fetched_from_elsewhere_is_refused() -> None:
    pytest.importorskip("transformers")
    with pytest.raises(SecateursError, match="somebody/kernel"):
        Transformers("BertModel", CONFIG, attention="somebody/kernel")()
    made = Transformers("BertModel", {**CONFIG, "_attn_implementation": "somebody/kernel"})()
    assert made.config._attn_implementation in {"sdpa", "eager"}


def test_a_class_of_ones_own_is_not_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")

    class BertModel(transformers.BertModel):  # type: ignore[misc]
        pass

    with pytest.raises(SecateursError, match="your own"):
        Transformers.of(BertModel(transformers.BertConfig(**CONFIG)))
    with pytest.raises(SecateursError, match="Linear"):
        Transformers.of(nn.Linear(1, 1))
