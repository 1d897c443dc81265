"""A pruned network as GGUF: read back, it is the pruned network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chained import llama, tokens
from secateurs.checkpoint import Checkpoint, to_gguf
from secateurs.types import SecateursError

from .test_gguf import gguf, write


@pytest.fixture
def network() -> nn.Module:
    return llama(hidden_size=32, intermediate_size=64)


def pruned(network: nn.Module, directory: Path) -> nn.Module:
    """Every second weight of every matrix in the blocks is zero; the directory is written."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "layers" in name and parameter.dim() == 2:
                parameter[:, ::2] = 0
    network.save_pretrained(directory)
    return network


@pytest.mark.parametrize(("dtype", "error"), [("F32", 0.0), ("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 1e-2)])
def test_what_is_read_back_is_the_pruned_network(tmp_path: Path, network: nn.Module, dtype: str, error: float) -> None:
    template = write(tmp_path / "dense.gguf", network)
    pruned(network, tmp_path / "pruned")
    to_gguf(tmp_path / "pruned", template, tmp_path / "pruned.gguf", dtype)
    checkpoint = Checkpoint.open(tmp_path / "pruned.gguf")
    net = checkpoint.empty()
    checkpoint.load_(net)
    for name, parameter in network.named_parameters():
        read = net.get_parameter(name)
        assert (read - parameter).abs().max() <= error * parameter.abs().max()
        assert not read[parameter == 0].any()
    if dtype == "F32":
        with torch.no_grad():
            assert torch.equal(net(**tokens()).logits, network(**tokens()).logits)


def test_all_that_is_not_weights_is_the_templates(tmp_path: Path, network: nn.Module) -> None:
    template = write(tmp_path / "dense.gguf", network)
    pruned(network, tmp_path / "pruned")
    to_gguf(tmp_path / "pruned", template, tmp_path / "pruned.gguf", "Q8_0")
    before, after = (gguf.GGUFReader(tmp_path / name) for name in ("dense.gguf", "pruned.gguf"))
    keys = {key for key in before.fields if not key.startswith("GGUF.")}
    assert all(before.fields[key].contents() == after.fields[key].contents() for key in keys)
    assert {t.tensor_type.name for t in after.tensors} == {"F32", "Q8_0"}
    assert {t.name: tuple(t.shape) for t in before.tensors} == {t.name: tuple(t.shape) for t in after.tensors}
    assert after.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0


def test_what_cannot_be_written_is_told(tmp_path: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    template = write(tmp_path / "dense.gguf", network)
    pruned(network, tmp_path / "pruned")
    llama(hidden_size=32, intermediate_size=48).save_pretrained(tmp_path / "other")
    with pytest.raises(SecateursError, match="Q4_0: choose one of F32"):
        to_gguf(tmp_path / "pruned", template, tmp_path / "a.gguf", "Q4_0")
    with pytest.raises(SecateursError, match=r"dense\.gguf exists"):
        to_gguf(tmp_path / "pruned", template, template)
    with pytest.raises(SecateursError, match=r"gate_proj\.weight is \(48, 32\), but \(64, 32\) in .*only a net"):
        to_gguf(tmp_path / "other", template, tmp_path / "a.gguf")
    from transformers.modeling_gguf_pytorch_utils import GGUFTensor, LlamaTensorProcessor

    monkeypatch.setattr(
        LlamaTensorProcessor, "process", lambda self, weights, name, **_: GGUFTensor(np.tanh(weights), name, {})
    )
    with pytest.raises(SecateursError, match=r"is not a rearrangement of what .*dense\.gguf has"):
        to_gguf(tmp_path / "pruned", template, tmp_path / "a.gguf")
    assert not list(tmp_path.glob("a.gguf*"))
