"""What happens between two blocks: how much is in place, what is remembered, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from secateurs import shrinking
from secateurs.checkpoint import Writer
from secateurs.shrink import shrink_checkpoint
from secateurs.smaller import Smaller
from secateurs.types import SecateursError
from test_shrink import batches, llama, recipe, saved


def test_no_more_than_one_block_is_ever_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    state = Smaller.state

    def counted(self: Any, at: Any) -> Any:
        of = [it for it in self.disk.network.parameters() if not it.is_meta]
        held.append(sum(it.numel() for it in of) + sum(it.numel() for it in at.block.parameters() if not it.is_meta))
        return state(self, at)

    monkeypatch.setattr(Smaller, "state", counted)
    shrink_checkpoint(
        saved(tmp_path / "dense", llama()), batches(llama()), recipe("neuron", "fluctuation"), 0.25, tmp_path / "out"
    )
    block = sum(it.numel() for it in llama().get_submodule("model.layers.0").parameters())
    assert len(held) == 3 and max(held) < block


def test_stopped_after_the_last_block_nothing_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, wanted = saved(tmp_path / "dense", llama()), recipe("layer", "block_influence")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        shrink_checkpoint(source, batches(llama()), wanted, 0.25, tmp_path / "out")
    monkeypatch.setattr(shrinking, "visited", lambda *_: pytest.fail("a pass"))
    done = shrink_checkpoint(source, batches(llama()), wanted, 0.25, tmp_path / "out")
    assert done.before == 2 and len(done.gone) == 1
    assert len(type(llama()).from_pretrained(tmp_path / "out").model.layers) == 2


def test_activations_that_are_not_finite_name_the_block(tmp_path: Path) -> None:
    model = llama()
    model.get_parameter("model.layers.1.mlp.up_proj.weight").data.fill_(1e38)
    source = saved(tmp_path / "dense", model)
    with pytest.raises(SecateursError, match=r"^model\.layers\.1 gives NaN or infinite"):
        shrink_checkpoint(source, batches(model), recipe("layer", "block_influence"), 0.25, tmp_path / "out")
    assert [it.name for it in tmp_path.iterdir()] == ["dense"]
