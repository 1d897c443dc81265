"""The smaller network block by block: what runs through it, and what it is proven on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from secateurs.blockwise import Blockwise
from secateurs.smaller import POSITIONS, brief, visited
from test_shrink import batches, saved, t5


def test_batches_come_out_of_the_last_block_as_from_the_whole_network(tmp_path: Path) -> None:
    model = t5(2)
    disk = Blockwise.of(saved(tmp_path / "dense", model), batches(model))
    seen: list[torch.Tensor] = []
    hook = model.get_submodule(disk.blocks[-1]).register_forward_hook(
        lambda block, given, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad(), hook:
        for batch in batches(model):
            model(**batch)
    with disk.at_work(tmp_path, tmp_path / "out") as (disk, _):
        stops = []
        for at in visited(disk, disk.batches):
            assert not any(it.is_meta for it in at.block.parameters())
            stops.append(at.name)
        assert tuple(stops) == disk.blocks
        for going, wanted in zip(at.going, seen, strict=True):
            assert torch.equal(going.here()[0], wanted)


def test_a_batch_is_cut_to_one_example_and_ids_to_a_few() -> None:
    ids = torch.arange(120).view(2, 60)
    cut: Any = brief({"input_ids": ids, "decoder_input_ids": ids[:, :7], "use_cache": False})
    assert cut["input_ids"].tolist() == [list(range(POSITIONS))] and cut["decoder_input_ids"].shape == (1, 7)
    assert cut["use_cache"] is False
    assert brief((torch.zeros(2, 3, 8, 8),))[0].shape == (1, 3, 8, 8)  # type: ignore[index]
    odd = {"input_ids": ids, "bias": torch.zeros(7)}
    assert brief(odd) is odd
