"""A checkpoint by name, calibrated on a text, becomes what the engine makes of the same sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateurs.checkpoint import Checkpoint
from secateurs.job.blockwise import Wanted
from secateurs.job.shrinking import shrink_named
from secateurs.recipe import load_recipe
from secateurs.shrink import shrink_checkpoint
from secateurs.types import SecateursError
from tasks.conftest import tiny_llama

pytest.importorskip("transformers", reason="checkpoints are those of transformers")
CUT = {"length": 16, "count": 6, "batch_size": 2}


def test_a_shipped_recipe_gives_what_the_engine_gives(tmp_path: Path) -> None:
    tiny_llama(num_hidden_layers=3).save_pretrained(tmp_path / "dense")
    ids = torch.arange(96) % 32
    torch.save(ids, tmp_path / "ids.pt")
    wanted = Wanted(0.3, "shortgpt", str(tmp_path / "out"), str(tmp_path), "highest")
    done = shrink_named(str(tmp_path / "dense"), {"train": str(tmp_path / "ids.pt"), **CUT}, wanted)

    rows = ids.view(6, 16)
    batches = [{"input_ids": rows[i : i + 2], "use_cache": False} for i in (0, 2, 4)]
    same = shrink_checkpoint(
        Checkpoint.open(tmp_path / "dense"), batches, load_recipe("shortgpt"), 0.3, tmp_path / "same"
    )
    assert done.written.gone == same.gone and len(same.gone) == 1
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "same" / path.name).read_bytes(), path.name
    assert done.files == len(list((tmp_path / "out").glob("*.safetensors"))) and done.size_bytes > 0


def test_data_are_asked_for_where_any_part_looks_at_them(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "dense")
    plain = "structure: [neuron]\ncriterion: magnitude\nallocation: uniform\n"
    (tmp_path / "blind.yaml").write_text(plain)
    (tmp_path / "heals.yaml").write_text(f"{plain}recovery: {{bias: {{batches: 2}}}}\n")
    out = str(tmp_path / "out")
    with pytest.raises(SecateursError, match=r"heals\.yaml looks at activations: give --data"):
        shrink_named(str(tmp_path / "dense"), {}, Wanted(0.25, str(tmp_path / "heals.yaml"), out))
    with pytest.raises(SecateursError, match="`secateurs sparsify` takes it"):
        shrink_named(str(tmp_path / "dense"), {}, Wanted(0.25, "wanda", out))
    done = shrink_named(str(tmp_path / "dense"), {}, Wanted(0.25, str(tmp_path / "blind.yaml"), out))
    assert list(done.written.config) == ["intermediate_size"]
