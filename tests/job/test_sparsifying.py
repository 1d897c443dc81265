"""A checkpoint by name, calibrated on a text, becomes what the engine makes of the same sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from secateurs.checkpoint import Checkpoint
from secateurs.job.blockwise import Wanted
from secateurs.job.sparsifying import sparsify_named
from secateurs.on_disk import check, prune_checkpoint
from secateurs.recipe import load_recipe
from secateurs.types import SecateursError
from tasks.conftest import letter_tokenizer, tiny_llama

transformers = pytest.importorskip("transformers", reason="checkpoints are those of transformers")
TEXT = "a stitch in time saves nine, and nine times out of ten. " * 20
CUT = {"length": 16, "count": 6, "batch_size": 2}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dense")
    tiny_llama().save_pretrained(directory)
    letter_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "text.txt")


def state(directory: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = transformers.LlamaForCausalLM.from_pretrained(directory).state_dict()
    return found


@pytest.mark.parametrize("recipe", ["sparsegpt", "wanda_2_4", "owl"])
def test_the_shipped_recipes_give_what_the_engine_gives(recipe: str, dense: Path, text: str, tmp_path: Path) -> None:
    wanted = Wanted(0.5, recipe, str(tmp_path / "out"), str(tmp_path), "highest")
    done = sparsify_named(str(dense), {"train": text, "bos": True, **CUT}, wanted)

    ids = torch.tensor(letter_tokenizer()(TEXT, add_special_tokens=False)["input_ids"])
    rows = [ids[i * (len(ids) - 15) // 5 :][:15] for i in range(6)]
    rows = [torch.cat((torch.tensor([1]), row)) for row in rows]
    batches = [{"input_ids": torch.stack(rows[i : i + 2]), "use_cache": False} for i in (0, 2, 4)]
    prune_checkpoint(Checkpoint.open(dense), batches, load_recipe(recipe), 0.5, tmp_path / "same")

    mine, theirs = state(tmp_path / "out"), state(tmp_path / "same")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert 0.5 <= done.written.sparsity < 0.5 + 1 / 128  # owl by under one weight of every row of one matrix
    counted = {name: int((mine[name] == 0).sum()) for name in done.written.zeros}
    assert counted == dict(done.written.zeros) and len(counted) == 14
    assert done.files == len(list((tmp_path / "out").glob("*.safetensors"))) and done.size_bytes > 0
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again("a stitch")["input_ids"] == letter_tokenizer()("a stitch")["input_ids"]


@pytest.mark.parametrize(
    "recipe",
    ["sparsegpt", "sparsegpt_2_4", "alps", "alps_2_4", "compensated", "wanda", "wanda_2_4", "ria", "owl", "magnitude"],
)
def test_shipped_recipes_that_work_block_by_block(recipe: str) -> None:
    assert Wanted(0.5, recipe).checked(check) == load_recipe(recipe)


def test_token_ids_need_no_tokenizer(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "dense")
    torch.save(torch.arange(200) % 32, tmp_path / "ids.pt")
    wanted = Wanted(0.25, "wanda", str(tmp_path / "out"))
    done = sparsify_named(str(tmp_path / "dense"), {"train": str(tmp_path / "ids.pt"), **CUT}, wanted)
    assert done.written.sparsity == pytest.approx(0.25, abs=0.02)
    with pytest.raises(SecateursError, match="the model has no tokenizer"):
        (tmp_path / "text.txt").write_text(TEXT)
        data = {"train": str(tmp_path / "text.txt"), **CUT}
        sparsify_named(str(tmp_path / "dense"), data, Wanted(0.25, "wanda", str(tmp_path / "other")))


def test_weights_alone_need_neither_data_nor_tokenizer(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path / "dense")
    done = sparsify_named(str(tmp_path / "dense"), {}, Wanted(0.25, "magnitude", str(tmp_path / "out")))
    assert done.written.sparsity == pytest.approx(0.25, abs=0.02)
    sizes = {"d_model": 12, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heard = transformers.WhisperConfig(vocab_size=32, pad_token_id=0, max_source_positions=8, **sizes)
    transformers.WhisperForConditionalGeneration(heard).save_pretrained(tmp_path / "heard")
    with pytest.raises(SecateursError, match="does not say what its inputs are; `secateurs prune` takes"):
        sparsify_named(str(tmp_path / "heard"), {}, Wanted(0.25, "magnitude", str(tmp_path / "other")))
    with pytest.raises(SecateursError, match="recipe wanda looks at activations: give --data"):
        sparsify_named(str(tmp_path / "dense"), {}, Wanted(0.25, "wanda", str(tmp_path / "other")))


def test_products_are_as_asked_while_it_works_and_as_before_after(
    dense: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secateurs.job import sparsifying

    seen: list[str] = []

    def fails(*given: Any) -> None:
        seen.append(torch.get_float32_matmul_precision())
        raise KeyboardInterrupt

    monkeypatch.setattr(sparsifying, "prune_checkpoint", fails)
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyboardInterrupt):
        sparsify_named(
            str(dense), {"train": text, **CUT}, Wanted(0.5, "sparsegpt", str(tmp_path / "out"), matmul="high")
        )
    assert seen == ["high"]
    assert torch.get_float32_matmul_precision() == before


@pytest.fixture
def given(dense: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A model, and a directory with much that cannot be used."""
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "artifact"):
        (tmp_path / name).mkdir()
    (tmp_path / "artifact" / "manifest.json").write_text("{}")
    (tmp_path / "short.txt").write_text("a b")
    torch.save(torch.full((100,), 40), tmp_path / "ids.pt")
    return str(dense), tmp_path


@pytest.mark.parametrize(
    ("model", "data", "wanted", "line"),
    [
        ("missing", {}, {}, r"no directory or file 'missing'.*hf download"),
        ("net.py:build", {}, {}, "is a function"),
        ("artifact", {}, {}, "secateurs export"),
        ("empty", {}, {}, "save_pretrained first"),
        ("single", {}, {}, "has no chain of blocks"),
        (None, {"length": 5000}, {}, r"5000 is more than the 64 positions"),
        (None, {"train": "short.txt"}, {}, "shorter than one sequence"),
        (None, {"train": "none.txt"}, {}, "no such file"),
        (None, {"train": "ids.pt"}, {}, r"token 40 of the train text is outside the model's vocabulary of 32"),
        (None, {"count": 0}, {}, "count must be at least 1"),
        (None, {}, {"recipe": "default"}, "sequential"),
        (None, {}, {"recipe": "wanda_2_4", "sparsity": 0.6}, "removes exactly 0.5"),
        (None, {}, {"sparsity": 1.5}, "between 0 and 1"),
        (None, {}, {"output": "empty"}, "empty exists"),
        (None, {}, {"shelf": "nowhere"}, "no directory nowhere"),
        (None, {}, {"matmul": "low"}, "matmul must be one of"),
        (None, {}, {"device": "abacus"}, "no device 'abacus'"),
    ],
)
def test_what_cannot_be_used_is_told_before_any_work(
    model: str | None, data: dict[str, Any], wanted: dict[str, Any], line: str, given: tuple[str, Path]
) -> None:
    dense, tmp_path = given
    if model == "single":
        tiny_llama(num_hidden_layers=0).save_pretrained(tmp_path / "single")
    there = sorted(tmp_path.iterdir())
    options = {"sparsity": 0.5, "recipe": "sparsegpt", "output": "out", **wanted}
    with pytest.raises(SecateursError, match=line):
        sparsify_named(model or dense, {"train": "text.txt", **CUT, **data}, Wanted(**options))
    assert sorted(tmp_path.iterdir()) == there
