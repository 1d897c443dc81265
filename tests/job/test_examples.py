"""Inputs made up from a shape or from a config are inputs the network runs on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateurs.job.examples import of_config, of_shape
from secateurs.types import SecateursError


def test_of_shape_gives_one_tensor_per_argument_and_the_same_every_time() -> None:
    first, second = of_shape("1x3x8x8, 2X5")
    assert first.shape == (1, 3, 8, 8)
    assert second.shape == (2, 5)
    assert torch.equal(first, of_shape("1x3x8x8,2x5")[0])


@pytest.mark.parametrize("shape", ["", "3x", "axb", "0x3", "3,,4", "-1x3"])
def test_what_is_not_a_shape(shape: str) -> None:
    with pytest.raises(SecateursError, match="is not a shape"):
        of_shape(shape)


def test_of_config_runs_text_and_vision_models() -> None:
    transformers = pytest.importorskip("transformers")
    text = transformers.BertModel(
        transformers.BertConfig(num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2)
    )
    vision = transformers.ViTModel(
        transformers.ViTConfig(
            num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2, image_size=32, patch_size=8
        )
    )
    for model in (text.eval(), vision.eval()):
        assert model(**of_config(model)).last_hidden_state.shape[-1] == 8


def test_of_config_gives_an_encoder_decoder_what_its_decoder_reads() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwitchTransformersConfig(
        d_model=8, d_kv=4, d_ff=8, num_heads=2, num_layers=1, num_decoder_layers=1, num_experts=2, vocab_size=5
    )
    model = transformers.SwitchTransformersModel(config).eval()
    inputs = of_config(model)
    assert inputs.keys() == {"input_ids", "decoder_input_ids"}
    assert model(**inputs).last_hidden_state.shape[-1] == 8


def test_a_network_without_config_must_be_told() -> None:
    with pytest.raises(SecateursError, match="give --shape"):
        of_config(nn.Linear(2, 2))
