"""A checkpoint on disk becomes, block by block, what the network in memory does when it is pruned and exported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs import shrinking
from secateurs.checkpoint import Checkpoint
from secateurs.deploy import Transformers
from secateurs.deploy.pretrained import save_pretrained
from secateurs.prune import prune
from secateurs.recipe import Recipe, load_recipe
from secateurs.shrink import check, shrink_checkpoint
from secateurs.smaller import At, Smaller
from secateurs.types import SecateursError, Task

transformers = pytest.importorskip("transformers", reason="checkpoints are those of transformers")

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 40}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def llama() -> nn.Module:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **HEADS)).eval()


def qwen() -> nn.Module:
    torch.manual_seed(0)
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES, **HEADS)).eval()


def gpt() -> nn.Module:
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=32, vocab_size=40, **ends)
    return transformers.GPT2LMHeadModel(config).eval()


def t5(layers: int = 3) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_heads": 4, "num_layers": layers, "vocab_size": 40}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).eval()


def mixtral() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**{**SIZES, "num_hidden_layers": 2}, **HEADS, num_local_experts=4)
    return transformers.MixtralForCausalLM(config).eval()


def recipe(structure: str, criterion: str, recovery: str = "nothing", **changes: Any) -> Recipe:
    parts = {"structure": structure.split(), "criterion": criterion, "allocation": "uniform", "calibration_batches": 3}
    recovery_of = {"bias": {"bias": {"batches": 2}}, "reconstruct": {"reconstruct": {"batches": 3}}}
    return Recipe.from_dict({**parts, "recovery": recovery_of.get(recovery, recovery), **changes})


def batches(model: nn.Module) -> list[dict[str, Any]]:
    ids = torch.randint(0, 40, (6, 12), generator=torch.Generator().manual_seed(1))
    more = {"decoder_input_ids": ids[:2, :7]} if model.config.is_encoder_decoder else {}
    return [{"input_ids": ids[i : i + 2], "use_cache": False, **more} for i in (0, 2, 4)]


def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    return model(**batch).logits.float().square().mean()


def saved(directory: Path, model: nn.Module) -> Checkpoint:
    model.save_pretrained(directory, max_shard_size="10kB")
    return Checkpoint.open(directory)


def in_memory(model: nn.Module, wanted: Recipe, sparsity: float, directory: Path) -> nn.Module:
    task = Task("any", batches(model)[0], {"train": batches(model)}, loss, None, None)  # type: ignore[arg-type]
    small = prune(model, task, wanted, sparsity).model
    save_pretrained(directory, small, Transformers.of(model), batches(model)[0])
    return type(model).from_pretrained(directory).eval()


@pytest.mark.parametrize(
    ("build", "wanted", "sparsity", "fields"),
    [
        (llama, recipe("layer", "block_influence"), 0.3, {"num_hidden_layers"}),
        (llama, recipe("neuron", "fluctuation", "bias"), 0.25, {"intermediate_size", "mlp_bias"}),
        (llama, recipe("layer neuron", "magnitude"), 0.25, {"intermediate_size", "num_hidden_layers"}),
        (qwen, recipe("head", "obs"), 0.5, {"num_attention_heads", "num_key_value_heads", "head_dim"}),
        (gpt, recipe("neuron", "magnitude"), 0.25, {"n_inner"}),
        (t5, recipe("layer", "block_influence"), 0.3, {"num_layers", "num_decoder_layers"}),
        (mixtral, recipe("neuron", "magnitude"), 0.25, {"intermediate_size", "head_dim"}),
        (mixtral, recipe("expert", "redundancy"), 0.5, {"num_local_experts", "head_dim"}),
    ],
)
def test_it_becomes_what_the_network_in_memory_does(
    build: Callable[[], nn.Module], wanted: Recipe, sparsity: float, fields: set[str], tmp_path: Path
) -> None:
    model = build()
    done = shrink_checkpoint(
        saved(tmp_path / "dense", model), batches(model), wanted, sparsity, tmp_path / "out", tmp_path
    )
    mine = type(model).from_pretrained(tmp_path / "out").eval()
    theirs = in_memory(model, wanted, sparsity, tmp_path / "memory")
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    for (name, one), other in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert torch.equal(loss(mine, batches(model)[1]), loss(theirs, batches(model)[1]))
    assert set(done.config) <= fields and done.parameters[1] == sum(it.numel() for it in mine.parameters())
    assert sorted(it.name for it in tmp_path.iterdir()) == ["dense", "memory", "out"], "nothing is left on the shelf"
    shards = sorted(it.name for it in (tmp_path / "out").glob("*.safetensors"))
    assert [int(name[6:11]) for name in shards] == list(range(1, int(shards[0][15:20]) + 1)), "no number is missing"


def test_reconstructed_it_does_so_to_the_last_digits(tmp_path: Path) -> None:
    model, wanted = llama(), recipe("head neuron", "obs", "reconstruct", chooser="osscar")
    shrink_checkpoint(saved(tmp_path / "dense", model), batches(model), wanted, 0.5, tmp_path / "out", tmp_path)
    mine = type(model).from_pretrained(tmp_path / "out").eval()
    theirs = in_memory(model, wanted, 0.5, tmp_path / "memory")
    for (name, one), other in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_a_decoder_is_healed_behind_what_its_encoder_gives_now(tmp_path: Path) -> None:
    model = t5(2)
    source, off = saved(tmp_path / "dense", model), {}
    for recovery in ("nothing", "reconstruct"):
        wanted = recipe("neuron", "leverage", recovery)
        shrink_checkpoint(source, batches(model), wanted, 0.5, tmp_path / recovery, tmp_path)
        found = type(model).from_pretrained(tmp_path / recovery).eval()
        gaps = [found(**batch).logits - model(**batch).logits for batch in batches(model)]
        off[recovery] = float(torch.cat(gaps).detach().square().mean())
    assert off["reconstruct"] < 0.8 * off["nothing"]


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_shrink import batches, llama, recipe
from secateurs import shrinking
from secateurs.checkpoint import Checkpoint
from secateurs.shrink import shrink_checkpoint
from secateurs.smaller import Smaller

problem = Smaller.problem
def killed(self, at, wanted):
    if at.name == "model.layers.2":
        os.kill(os.getpid(), signal.SIGKILL)
    return problem(self, at, wanted)
Smaller.problem = killed
here = Path({here!r})
shrink_checkpoint(Checkpoint.open(here / "dense"), batches(llama()), recipe(*{parts!r}), 0.25, here / "out", here)
"""


def same_files(one: Path, other: Path) -> None:
    assert sorted(it.name for it in one.iterdir()) == sorted(it.name for it in other.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_killed_in_mid_block_it_goes_on_to_the_same_files(tmp_path: Path) -> None:
    source, given = saved(tmp_path / "dense", llama()), batches(llama())
    parts = ("neuron", "leverage", "reconstruct")
    shrink_checkpoint(source, given, recipe(*parts), 0.25, tmp_path / "whole")
    script = tmp_path / "script.py"
    paths = [str(Path(__file__).parent), *sys.path]
    script.write_text(textwrap.dedent(KILLED.format(paths=paths, here=str(tmp_path), parts=parts)))
    ended = subprocess.run([sys.executable, str(script)], env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").is_dir()

    with pytest.raises(SecateursError, match=r"with another sparsity \(0.25, now 0.5\): remove it"):
        shrink_checkpoint(source, given, recipe(*parts), 0.5, tmp_path / "out")
    done = shrink_checkpoint(source, given, recipe(*parts), 0.25, tmp_path / "out", tmp_path)
    assert done.before == 2
    same_files(tmp_path / "whole", tmp_path / "out")


def test_interrupted_it_remembers_which_blocks_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, wanted = saved(tmp_path / "dense", llama()), recipe("layer neuron", "magnitude")
    whole = shrink_checkpoint(source, batches(llama()), wanted, 0.25, tmp_path / "whole")
    put = Smaller.put_

    def stopped(self: Smaller, at: At, tensors: Any) -> None:
        if at.position == 2:
            raise KeyboardInterrupt
        put(self, at, tensors)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Smaller, "put_", stopped)
        shrink_checkpoint(source, batches(llama()), wanted, 0.25, tmp_path / "out")
    monkeypatch.setattr(shrinking, "select", lambda *_: pytest.fail("chosen again"))
    done = shrink_checkpoint(source, batches(llama()), wanted, 0.25, tmp_path / "out")
    assert done.before == 1 and done.gone == whole.gone
    monkeypatch.undo()
    same_files(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sequential": True}, "`secateurs sparsify` takes it"),
        ({"basis": "principal"}, "take a recipe without one"),
        ({"schedule": {"iterative": {"rounds": 3}}}, "the schedule has 3"),
        ({"criterion": "taylor"}, "gradient is needed"),
        ({"criterion": "loss_increase"}, "loss increase is needed"),
        ({"recovery": "fine_tune"}, "nothing is trained; use recovery: nothing, bias or reconstruct"),
        ({"allocation": {"global_rank": {"currency": "parameters"}}}, "use allocation: uniform"),
        ({"allocation": {"global_rank": {"normalise": "standard"}}}, "use allocation: uniform"),
    ],
)
def test_what_cannot_be_done_block_by_block_is_refused_first(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(SecateursError, match=line):
        check(Recipe.from_dict({**recipe("neuron", "magnitude").to_dict(), **changes}), 0.5)


@pytest.mark.parametrize(
    ("build", "wanted", "line"),
    [
        (
            llama,
            recipe("width", "magnitude"),
            r"width reaches through .* more, and only what lies inside of one",
        ),
        (llama, recipe("weight", "magnitude"), r"single weights.*`secateurs sparsify` makes them zero"),
        (llama, recipe("layer", "block_influence", "reconstruct"), "nothing mends where whole blocks went"),
        (gpt, recipe("head", "obs"), r"no config of GPT2LMHeadModel makes this network \(none fits transformer\.h\.0"),
    ],
)
def test_what_no_config_says_is_refused_before_anything_is_written(
    build: Callable[[], nn.Module], wanted: Recipe, line: str, tmp_path: Path
) -> None:
    model = build()
    source = saved(tmp_path / "dense", model)
    with pytest.raises(SecateursError, match=line):
        shrink_checkpoint(source, batches(model), wanted, 0.25, tmp_path / "out")
    assert [it.name for it in tmp_path.iterdir()] == ["dense"]


def test_branches_are_no_blocks(tmp_path: Path) -> None:
    wanted = Recipe.from_yaml("structure: {layer: {of: branch}}\ncriterion: magnitude\nallocation: uniform\n")
    with pytest.raises(SecateursError, match="use of: block"):
        shrink_checkpoint(saved(tmp_path / "dense", llama()), batches(llama()), wanted, 0.25, tmp_path / "out")


@pytest.mark.parametrize("name", ["shortgpt", "osscar", "stun_experts"])
def test_shipped_recipes_that_work_block_by_block(name: str) -> None:
    check(load_recipe(name), 0.25)


def test_the_precision_of_the_checkpoint_stays(tmp_path: Path) -> None:
    model = llama().to(torch.bfloat16)
    wanted = replace(recipe("neuron", "leverage", "reconstruct"))
    shrink_checkpoint(saved(tmp_path / "dense", model), batches(model), wanted, 0.25, tmp_path / "out")
    found = Checkpoint.open(tmp_path / "out")
    assert set(found.dtypes.values()) == {torch.bfloat16} and found.config.dtype == torch.bfloat16
