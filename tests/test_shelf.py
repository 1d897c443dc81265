from pathlib import Path

import pytest
import torch
from torch import nn

from secateurs.shelf import Shelf
from secateurs.types import SecateursError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_what_waits_has_no_memory_and_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 5).to(dtype)
    before = tensor.clone()
    fetch = Shelf(tmp_path).away(tensor)
    assert tensor.untyped_storage().nbytes() == 0 and len(list(tmp_path.iterdir())) == 1
    fetch()
    assert torch.equal(tensor, before) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "tensor", [torch.randn(4, 4)[1:], torch.randn(4, 3).T, nn.Parameter(torch.randn(2)), torch.empty(0)]
)
def test_what_others_may_look_at_stays(tmp_path: Path, tensor: torch.Tensor) -> None:
    before = tensor.clone()
    fetch = Shelf(tmp_path).away(tensor)
    assert torch.equal(tensor, before) and not list(tmp_path.iterdir())
    fetch()


def test_a_disk_that_cannot_hold_it_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    tensor = torch.ones(3)
    with pytest.raises(SecateursError, match="cannot hold the activations"):
        Shelf(tmp_path / "missing").away(tensor)
    assert tensor.tolist() == [1, 1, 1]
