from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateurs.blockwise import Blockwise
from secateurs.checkpoint import Checkpoint
from secateurs.recipe import load_recipe
from secateurs.types import SecateursError
from tasks.conftest import tiny_llama

pytest.importorskip("transformers", reason="checkpoints are those of transformers")


@pytest.fixture
def disk(tmp_path: Path) -> Blockwise:
    tiny_llama().save_pretrained(tmp_path / "dense")
    return Blockwise.of(Checkpoint.open(tmp_path / "dense"), [{"input_ids": torch.tensor([[1, 2, 3]])}])


def test_no_more_is_in_place_than_was_asked_for(disk: Blockwise, tmp_path: Path) -> None:
    def there() -> set[str]:
        return {name for name, parameter in disk.network.named_parameters() if not parameter.is_meta}

    assert not there()
    with disk.at_work(tmp_path, tmp_path / "out") as (working, _):
        with working.around():
            assert there() == set(disk.rest)
        _, second = disk.blocks
        with working.dense(second):
            assert there() and all(name.startswith(f"{second}.") for name in there())
    assert not there() and [it.name for it in tmp_path.iterdir()] == ["dense"]


def test_a_block_with_weights_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    model = tiny_llama()
    model.get_parameter("model.layers.1.mlp.up_proj.weight").data[0] = torch.nan
    model.save_pretrained(tmp_path)
    disk = Blockwise.of(Checkpoint.open(tmp_path), [{"input_ids": torch.tensor([[1, 2, 3]])}])
    disk.put_("model.layers.0")
    with pytest.raises(SecateursError, match=r"^model\.layers\.1\.mlp\.up_proj\.weight holds NaN"):
        disk.put_("model.layers.1")


def test_a_job_is_told_from_others_by_all_that_it_looks_at(disk: Blockwise) -> None:
    other = Blockwise.of(disk.source, [{"input_ids": torch.tensor([[1, 2, 4]])}])
    looks, blind = load_recipe("wanda"), load_recipe("magnitude")
    assert disk.about(looks, 0.5) != other.about(looks, 0.5) and disk.about(blind, 0.5) == other.about(blind, 0.5)
    assert disk.about(looks, 0.5) != disk.about(looks, 0.25)


def test_there_must_be_a_batch(disk: Blockwise) -> None:
    with pytest.raises(SecateursError, match="no calibration batch"):
        Blockwise.of(disk.source, [])
