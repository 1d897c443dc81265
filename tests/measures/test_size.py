from __future__ import annotations

import pytest
from safetensors.torch import save_file
from torch import nn

from secateurs.measures.size import Size
from secateurs.types import SecateursError


def test_is_the_length_of_the_file(running, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    save_file(dict(model.state_dict()), tmp_path / "m.safetensors")
    reading = Size()(model, running())
    assert reading.value == (tmp_path / "m.safetensors").stat().st_size
    assert (reading.unit, reading.how, reading.source) == ("B", "counted", "safetensors")


def test_tied_weights_are_stored_once(running):
    model = nn.Sequential(nn.Embedding(1000, 8), nn.Linear(8, 1000, bias=False))
    apart = Size()(model, running()).value
    model[1].weight = model[0].weight
    assert apart - Size()(model, running()).value >= 4 * 8000


def test_transposed_and_half_weights(running):
    model = nn.Linear(100, 50, bias=False)
    full = Size()(model, running()).value
    model.weight = nn.Parameter(model.weight.data.t().contiguous().t())
    assert Size()(model, running()).value == full
    assert full - Size()(model.half(), running()).value == 2 * 5000


def test_directory_is_the_sum_of_its_files(running, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(100))
    (tmp_path / "deep" / "b.bin").write_bytes(bytes(23))
    assert Size(artifact=str(tmp_path))(nn.Identity(), running()).value == 123
    assert Size(artifact=str(tmp_path / "a.bin"))(nn.Identity(), running()).value == 100


def test_refuses_what_is_not_there(running, tmp_path):
    with pytest.raises(SecateursError, match="no artifact"):
        Size(artifact=str(tmp_path / "none"))(nn.Identity(), running())
    with pytest.raises(SecateursError, match="empty directory"):
        Size(artifact=str(tmp_path))(nn.Identity(), running())


def test_model_without_a_state(running):
    assert Size()(nn.ReLU(), running()).value < 100
