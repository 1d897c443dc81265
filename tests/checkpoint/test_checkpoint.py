"""A network read from disk a part at a time: the same network, and no more in memory than was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from chained import CASES
from secateurs.blocks import Calls, chains, entries, outside
from secateurs.checkpoint import Checkpoint
from secateurs.checkpoint.shards import Shards
from secateurs.types import SecateursError

from .conftest import Saved

NAMES = ("llama", "gpt2", "gemma", "mixtral", "jamba", "t5", "bart")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the stored tensors that are read, in their order."""
    read: list[str] = []
    original = Shards.read

    def counting(self: Shards, name: str) -> Tensor:
        read.append(name)
        return original(self, name)

    monkeypatch.setattr(Shards, "read", counting)
    yield read


def logits(model: nn.Module, name: str) -> Tensor:
    with torch.no_grad():
        return model(**CASES[name][1]()).logits


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_is_the_network_bit_for_bit(saved: Saved, name: str) -> None:
    model, directory = saved(name)
    checkpoint = Checkpoint.open(directory)
    empty = checkpoint.empty()
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert not any(buffer.is_meta for buffer in empty.buffers())
    checkpoint.load_(empty)
    assert empty.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(logits(empty, name), logits(model, name))
    assert [id(p) for p in empty.parameters()] == [id(p) for p in dict.fromkeys(empty.parameters())]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_walks_through_memory_block_by_block(saved: Saved, reads: list[str], name: str) -> None:
    model, directory = saved(name)
    checkpoint = Checkpoint.open(directory)
    assert reads == []
    net = checkpoint.empty()
    found = chains(net)
    checkpoint.load_(net, *outside(net, found))
    before: list[tuple[Calls, Tensor]] = []
    for chain in found:
        calls = entries(net, chain, CASES[name][1](), before)
        state: tuple[object, ...] = (calls.first,)
        for position, block in enumerate(chain.blocks):
            checkpoint.load_(net, block)
            with torch.no_grad():
                state = calls.step(position, net.get_submodule(block), state)
            checkpoint.release_(net, block)
            assert all(parameter.is_meta for parameter in net.get_submodule(block).parameters())
        hidden = state[0]
        assert isinstance(hidden, Tensor)
        before.append((calls, hidden))
    assert sorted(reads) == sorted(set(checkpoint.source.tensors))  # each once, none twice
    last = found[-1].modules(model)[-1]
    seen: list[Tensor] = []
    last.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
    logits(model, name)
    assert torch.equal(before[-1][1], seen[0])


def test_only_what_is_asked_for_is_read(saved: Saved, reads: list[str]) -> None:
    model, directory = saved("llama")
    checkpoint = Checkpoint.open(directory)
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(checkpoint.read(name), model.get_parameter(name))
    assert reads == [name]
    net = checkpoint.empty()
    checkpoint.load_(net, "model.layers.2.self_attn", dtype=torch.bfloat16)
    assert {p.dtype for p in net.model.layers[2].self_attn.parameters()} == {torch.bfloat16}
    assert len(reads) == 5
    assert sum(not p.is_meta for p in net.parameters()) == 4


def test_tied_weights_are_read_once_and_stay_tied(tmp_path: Path, reads: list[str]) -> None:
    from chained import llama

    model = llama(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    net = checkpoint.empty()
    checkpoint.load_(net, "lm_head")
    assert net.lm_head.weight is net.model.embed_tokens.weight
    assert reads == ["model.embed_tokens.weight"]
    assert torch.equal(checkpoint.read("lm_head.weight"), model.lm_head.weight)
    checkpoint.release_(net, "model.embed_tokens")
    assert net.lm_head.weight is net.model.embed_tokens.weight and net.lm_head.weight.is_meta


def test_a_tied_weight_may_be_stored_under_its_other_name(tmp_path: Path) -> None:
    from chained import llama

    model = llama(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(Checkpoint.open(tmp_path).read("model.embed_tokens.weight"), model.lm_head.weight)


def test_types_are_as_stored(tmp_path: Path) -> None:
    model = CASES["llama"][0]().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    checkpoint = Checkpoint.open(tmp_path)
    assert set(checkpoint.dtypes.values()) == {torch.bfloat16}
    net = checkpoint.empty()
    checkpoint.load_(net)
    assert torch.equal(logits(net, "llama"), logits(model, "llama"))


def test_the_fingerprint_tells_another_checkpoint(saved: Saved) -> None:
    _, directory = saved("llama")
    first = Checkpoint.open(directory).fingerprint
    assert Checkpoint.open(directory).fingerprint == first
    file = sorted(directory.glob("*.safetensors"))[0]
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert Checkpoint.open(directory).fingerprint != first


def test_a_parameter_that_is_not_stored_is_told(saved: Saved) -> None:
    _, directory = saved("llama")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(
        SecateursError,
        match=r"does not hold model\.layers\.3\.self_attn\.q_proj\.weight, .* and 6 more \(9 parameters",
    ):
        Checkpoint.open(directory)


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("llama", {"intermediate_size": 25}, r"down_proj\.weight is \(16, 24\), .* has \(16, 25\) \(and so 8 more\)"),
        ("llama", {"num_hidden_layers": 2}, r"holds model\.layers\.2\..* and 6 more, .* number of layers was changed"),
        ("mixtral", {"num_local_experts": 2}, r"experts\.gate_up_proj is \(3, 48, 16\), .* has \(2, 48, 16\)"),
    ],
)
def test_another_config_is_told_by_headers_alone(
    saved: Saved, reads: list[str], name: str, change: dict[str, int], line: str
) -> None:
    _, directory = saved(name)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(SecateursError, match=line):
        Checkpoint.open(directory)
    assert not reads


def test_what_the_network_has_no_place_for_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CASES["llama"][0]().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    more = {f"extra.oak_{i}": torch.ones(1) for i in range(5)} | {"model.rotary_emb.inv_freq": torch.ones(2)}
    save_file({**tensors, **more}, tmp_path / "model.safetensors", {"format": "pt"})
    Checkpoint.open(tmp_path)
    assert "holds extra.oak_0, extra.oak_1, extra.oak_2 and 2 more, which LlamaForCausalLM" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "holds quantised weights"),
        ({"architectures": ["Oak"], "model_type": "oak"}, "has no config that transformers understands"),
        ({"architectures": ["Oak"]}, "Oak is no class of transformers"),
    ],
)
def test_a_config_that_is_of_no_use_is_told(saved: Saved, changes: dict[str, object], message: str) -> None:
    _, directory = saved("t5")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(SecateursError, match=message):
        Checkpoint.open(directory)


def test_tables_that_are_stored_nowhere_are_computed(tmp_path: Path) -> None:
    import transformers

    config = transformers.MarianConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=20,
        pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    model = transformers.MarianMTModel(config)
    model.save_pretrained(tmp_path)
    name = "model.encoder.embed_positions.weight"
    assert name not in Shards.beside(tmp_path).tensors
    assert torch.equal(Checkpoint.open(tmp_path).read(name), model.get_parameter(name))


def test_a_config_without_a_class_gets_the_usual_one(saved: Saved) -> None:
    model, directory = saved("t5")
    config = json.loads((directory / "config.json").read_text())
    del config["architectures"]
    (directory / "config.json").write_text(json.dumps(config))
    assert type(Checkpoint.open(directory).empty()) is type(model)


def test_a_place_without_a_network_is_told(tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match="no such directory or file"):
        Checkpoint.open(tmp_path / "none")
    with pytest.raises(SecateursError, match=r"neither model\.safetensors nor"):
        Checkpoint.open(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SecateursError, match=r"has 2 GGUF files: name one of them, e\.g\. .*a\.gguf"):
        Checkpoint.open(tmp_path)


def test_a_name_that_is_none_is_told(saved: Saved) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    with pytest.raises(SecateursError, match=r"LlamaForCausalLM has no module or tensor model\.layers\.9"):
        checkpoint.load_(checkpoint.empty(), "model.layers.9")
    with pytest.raises(SecateursError, match=r"does not hold model\.oak"):
        checkpoint.read("model.oak")
