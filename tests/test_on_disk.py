from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateurs import blockwise, on_disk
from secateurs.allocations.global_rank import GlobalRank
from secateurs.allocations.owl import Owl
from secateurs.allocations.uniform import Uniform
from secateurs.checkpoint import Checkpoint
from secateurs.criteria.magnitude import Magnitude
from secateurs.criteria.taylor import Taylor
from secateurs.criteria.wanda import Wanda
from secateurs.on_disk import check, prune_checkpoint
from secateurs.prune import prune
from secateurs.recipe import Recipe
from secateurs.recoveries.batch_norm import BatchNorm
from secateurs.schedules.iterative import Iterative
from secateurs.solvers.alps import Alps
from secateurs.solvers.dsnot import Dsnot
from secateurs.solvers.least_squares import LeastSquares
from secateurs.solvers.sparsegpt import Sparsegpt
from secateurs.structures.n_m import NM
from secateurs.structures.weight import Weight
from secateurs.types import SecateursError, Task

transformers = pytest.importorskip("transformers", reason="checkpoints are those of transformers")


def llama(**changes: Any) -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 40}
    config = transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **{**sizes, **changes})
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def batches() -> list[dict[str, Any]]:
    ids = torch.randint(0, 40, (6, 12), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": ids[i : i + 2], "use_cache": False} for i in (0, 2, 4)]


def wanda(**changes: Any) -> Recipe:
    parts: dict[str, Any] = {"structure": (NM(),), "criterion": Wanda(), "allocation": Uniform(), "sequential": True}
    return Recipe(**{**parts, "calibration_batches": 3, **changes})


def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    return model(**batch).logits.float().square().mean()


def saved(directory: Path, **changes: Any) -> Checkpoint:
    llama(**changes).save_pretrained(directory, max_shard_size="10kB")
    return Checkpoint.open(directory)


@pytest.mark.parametrize(
    "recipe",
    [
        wanda(),
        wanda(solver=Sparsegpt()),
        wanda(solver=Sparsegpt(), compensate=True),
        wanda(permute=True),
        wanda(solver=Sparsegpt(), compensate=True, permute=True),
        wanda(structure=(Weight(per="row"),)),
        wanda(structure=(Weight(),), allocation=GlobalRank()),
    ],
    ids=["2:4", "sparsegpt", "compensate", "permute", "permute_compensate", "rows", "global"],
)
def test_a_checkpoint_becomes_what_the_network_in_memory_does(recipe: Recipe, tmp_path: Path) -> None:
    source = saved(tmp_path / "dense")
    task = Task("any", batches()[0], {"train": batches()}, loss, None, None)  # type: ignore[arg-type]
    wanted = prune(llama(), task, recipe, 0.5).model

    done = prune_checkpoint(source, batches(), recipe, 0.5, tmp_path / "out", tmp_path)
    model = transformers.LlamaForCausalLM.from_pretrained(done.directory)
    if not isinstance(recipe.allocation, GlobalRank):  # that one looks at dense scores of another pass
        for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
            assert torch.equal(mine, theirs), name
    assert done.sparsity == pytest.approx(0.5, abs=0.01)
    counted = {name: int((model.get_parameter(name) == 0).sum()) for name in done.zeros}
    assert counted == done.zeros and len(counted) == 21
    assert sorted(it.name for it in tmp_path.iterdir()) == ["dense", "out"], "nothing is left on the shelf"


@pytest.mark.parametrize("allocation", [Uniform(), GlobalRank()])
def test_where_nothing_looks_at_activations_there_is_no_pass(
    allocation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path / "dense")
    recipe = wanda(structure=(Weight(),), criterion=Magnitude(), allocation=allocation)
    task = Task("any", batches()[0], {}, loss, None, None)  # type: ignore[arg-type]
    wanted = prune(llama(), task, recipe, 0.5).model

    monkeypatch.setattr(on_disk, "Stream", lambda *_: pytest.fail("a pass"))
    write = on_disk.Writer.write

    def stopped(self: Any, part: str, *given: Any) -> None:
        if part == "model.layers.2":
            raise KeyboardInterrupt
        write(self, part, *given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(on_disk.Writer, "write", stopped)
        prune_checkpoint(source, batches(), recipe, 0.5, tmp_path / "out")
    done = prune_checkpoint(source, batches()[:1], recipe, 0.5, tmp_path / "out")  # other data are the same job
    model = transformers.LlamaForCausalLM.from_pretrained(done.directory)
    for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert done.before == 2 and done.sparsity == pytest.approx(0.5, abs=0.01)


def test_read_ahead_it_becomes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "dense")
    recipe = wanda(structure=(Weight(),), allocation=GlobalRank())
    prune_checkpoint(source, batches(), recipe, 0.5, tmp_path / "in_turn")
    monkeypatch.setattr(blockwise, "READ_IN_TURN", frozenset())
    prune_checkpoint(source, batches(), recipe, 0.5, tmp_path / "ahead")
    for path in (tmp_path / "in_turn").iterdir():
        assert path.read_bytes() == (tmp_path / "ahead" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("changes", ["", "solver=Sparsegpt(), compensate=True"])
def test_killed_in_mid_block_it_goes_on_to_the_same_files(changes: str, tmp_path: Path) -> None:
    source, recipe = saved(tmp_path / "dense"), eval(f"wanda({changes})")
    prune_checkpoint(source, batches(), recipe, 0.5, tmp_path / "whole")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, signal, sys
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from pathlib import Path
        from test_on_disk import Sparsegpt, batches, wanda
        from secateurs.checkpoint import Checkpoint
        from secateurs.settling import Settling
        from secateurs.on_disk import prune_checkpoint

        settle = Settling.__call__
        def killed(self, name, multiplied):
            if name == "model.layers.2.mlp.up_proj.weight":
                os.kill(os.getpid(), signal.SIGKILL)
            return settle(self, name, multiplied)
        Settling.__call__ = killed
        here = Path({str(tmp_path)!r})
        prune_checkpoint(Checkpoint.open(here / "dense"), batches(), wanda({changes}), 0.5, here / "out")
        """)
    )
    ended = subprocess.run([sys.executable, str(script)], env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists() and (tmp_path / "out.partial").is_dir()

    with pytest.raises(SecateursError, match=r"with another calibration: remove it"):
        prune_checkpoint(source, batches()[:2], recipe, 0.5, tmp_path / "out")
    with pytest.raises(SecateursError, match=r"with another recipe, sparsity \(0.5, now 0.25\): remove it"):
        prune_checkpoint(source, batches(), replace(recipe, structure=(Weight(),)), 0.25, tmp_path / "out")
    prune_checkpoint(source, batches(), recipe, 0.5, tmp_path / "out")
    files = sorted(it.name for it in (tmp_path / "whole").iterdir())
    assert files == sorted(it.name for it in (tmp_path / "out").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sequential": False}, "take a recipe with sequential: true"),
        ({"schedule": Iterative(3)}, "the schedule has 3"),
        ({"criterion": Taylor()}, "needs gradient"),
        ({"recovery": BatchNorm()}, "nothing is healed"),
    ],
)
def test_what_cannot_be_done_block_by_block_is_refused_first(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(SecateursError, match=line):
        check(wanda(**changes), 0.5)


def test_weights_outside_of_the_blocks_stay_dense_and_are_named(tmp_path: Path) -> None:
    source = saved(tmp_path / "dense")
    done = prune_checkpoint(source, batches(), wanda(structure=(Weight(outputs=True),)), 0.5, tmp_path / "all")
    alone = prune_checkpoint(source, batches(), wanda(structure=(Weight(),)), 0.5, tmp_path / "blocks")
    assert done.left == done.dense == ("lm_head.weight",)
    for file in alone.directory.glob("*.safetensors"):
        assert file.read_bytes() == (done.directory / file.name).read_bytes(), file.name


def test_matrices_of_the_blocks_that_no_structure_names_are_told(tmp_path: Path) -> None:
    recipe = wanda(structure=(NM(keep=("*.down_proj.*",)),))
    done = prune_checkpoint(saved(tmp_path / "dense"), batches(), recipe, 0.5, tmp_path / "out")
    assert done.left == done.dense == tuple(f"model.layers.{i}.mlp.down_proj.weight" for i in range(3))


def test_an_allocation_by_scores_passes_over_what_cannot_be_settled(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "vocab_size": 40, "time_step_rank": 2}
    transformers.MambaForCausalLM(transformers.MambaConfig(**sizes)).save_pretrained(tmp_path / "dense")
    recipe = wanda(structure=(Weight(per="row"),), allocation=Owl())
    done = prune_checkpoint(Checkpoint.open(tmp_path / "dense"), batches(), recipe, 0.5, tmp_path / "out")
    assert {name.rpartition("mixer.")[2] for name in done.dense} == {"conv1d.weight", "A_log", "dt_proj.weight"}
    assert all(done.zeros[name] for name in done.entries if name not in done.dense)


def test_a_recipe_that_names_no_weight_of_the_blocks_is_refused(tmp_path: Path) -> None:
    recipe = wanda(structure=(Weight(keep=("model.*",), outputs=True),))
    with pytest.raises(SecateursError, match=r"names no weight of the blocks"):
        prune_checkpoint(saved(tmp_path / "dense"), batches(), recipe, 0.5, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def test_a_pattern_that_does_not_divide_names_the_tensor(tmp_path: Path) -> None:
    source = saved(tmp_path / "dense", intermediate_size=22)
    with pytest.raises(SecateursError, match=r"down_proj\.weight"):
        prune_checkpoint(source, batches(), wanda(), 0.5, tmp_path / "out")


@pytest.mark.parametrize(
    ("weight", "value", "line", "left"),
    [
        ("model.layers.0.mlp.up_proj.weight", 1e30, r"layers\.0\.mlp\.down_proj\.weight meets NaN or inf", ["dense"]),
        ("model.layers.0.mlp.down_proj.weight", torch.nan, r"^model\.layers\.0\.mlp\.down_proj\.weight hol", ["dense"]),
        ("model.layers.1.mlp.up_proj.weight", torch.inf, r"^model\.layers\.1\.mlp\.up_p", ["dense", "out.partial"]),
        ("model.embed_tokens.weight", torch.nan, r"^model\.embed_tokens\.weight holds NaN", ["dense"]),
    ],
)
def test_values_that_are_not_finite_are_told_by_name(
    weight: str, value: float, line: str, left: list[str], tmp_path: Path
) -> None:
    model = llama()
    model.get_parameter(weight).data.fill_(value)
    model.save_pretrained(tmp_path / "dense")
    with pytest.raises(SecateursError, match=line):
        prune_checkpoint(Checkpoint.open(tmp_path / "dense"), batches(), wanda(), 0.5, tmp_path / "out")
    assert sorted(it.name for it in tmp_path.iterdir()) == left, "what was begun in vain goes, finished blocks stay"


@pytest.mark.parametrize("recipe", [wanda(), wanda(structure=(Weight(),), solver=Sparsegpt(), compensate=True)])
def test_a_mixture_of_experts(recipe: Recipe, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    torch.manual_seed(0)
    experts = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    dense = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes, **experts)).eval()
    dense.save_pretrained(tmp_path / "dense")
    task = Task("any", batches()[0], {"train": batches()}, loss, None, None)  # type: ignore[arg-type]
    wanted = prune(dense, task, recipe, 0.5).model
    done = prune_checkpoint(Checkpoint.open(tmp_path / "dense"), batches(), recipe, 0.5, tmp_path / "out", tmp_path)
    model = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "out")
    for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    up = model.get_parameter("model.layers.1.mlp.experts.gate_up_proj")
    assert [int((matrix == 0).sum()) for matrix in up] == [up[0].numel() // 2] * 4
    assert done.zeros["model.layers.1.mlp.experts.gate_up_proj"] == up.numel() // 2


LLAMA4 = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "num_local_experts": 4}


@pytest.mark.parametrize("solver", [None, Sparsegpt(), Alps(), Dsnot(), LeastSquares()])
def test_experts_that_are_multiplied_as_one_batch(solver: Any, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "intermediate_size_mlp": 24, "vocab_size": 40}
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "interleave_moe_layer_step": 1, "pad_token_id": 0, **LLAMA4}
    dense = transformers.Llama4ForCausalLM(transformers.Llama4TextConfig(**sizes, **layers)).eval()
    for parameter in dense.parameters():
        nn.init.normal_(parameter, std=0.3)
    dense.save_pretrained(tmp_path / "dense")
    task = Task("any", batches()[0], {"train": batches()}, loss, None, None)  # type: ignore[arg-type]
    recipe = wanda(solver=solver)
    wanted = prune(dense, task, recipe, 0.5).model
    done = prune_checkpoint(Checkpoint.open(tmp_path / "dense"), batches(), recipe, 0.5, tmp_path / "out")
    model = transformers.Llama4ForCausalLM.from_pretrained(tmp_path / "out")
    for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert not done.dense and done.sparsity == 0.5
    name = "model.layers.0.feed_forward.experts.gate_up_proj"
    zeros = model.get_parameter(name) == 0
    assert set(zeros.mT.reshape(-1, 4).sum(1).tolist()) == {2}, "2:4 along what is summed over"
    if solver is None:
        norms = met_by_experts(model, name.removesuffix(".gate_up_proj"))
        scores = dense.get_parameter(name).detach().abs() * norms[:, :, None]
        gone = scores.mT.reshape(-1, 4).argsort(dim=1)[:, :2]
        assert bool(zeros.mT.reshape(-1, 4).gather(1, gone).all())


@pytest.mark.parametrize("recipe", [wanda(), wanda(solver=Sparsegpt(), compensate=True)])
def test_experts_that_are_multiplied_one_after_the_other(recipe: Recipe, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40, "kv_channels": 4}
    torch.manual_seed(0)
    config = transformers.JetMoeConfig(num_key_value_heads=2, num_local_experts=4, **sizes)
    dense = transformers.JetMoeForCausalLM(config).eval()
    for parameter in dense.parameters():
        nn.init.normal_(parameter, std=0.3)
    dense.save_pretrained(tmp_path / "dense")
    task = Task("any", batches()[0], {"train": batches()}, loss, None, None)  # type: ignore[arg-type]
    wanted = prune(dense, task, recipe, 0.5).model
    done = prune_checkpoint(Checkpoint.open(tmp_path / "dense"), batches(), recipe, 0.5, tmp_path / "out", tmp_path)
    model = transformers.JetMoeForCausalLM.from_pretrained(tmp_path / "out")
    for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert done.zeros["model.layers.1.mlp.input_linear.weight"] == 4 * 48 * 16 // 2 and not done.dense


def met_by_experts(model: nn.Module, experts: str) -> Tensor:
    """The norms of what each expert of Llama-4 is given: ``(experts, inputs)``."""
    met: list[Tensor] = []
    module = model.get_submodule(experts)
    hook = module.register_forward_pre_hook(lambda _, given: met.append(given[0].view(4, -1, 16)))
    with torch.no_grad():
        for batch in batches():
            model(**batch)
    hook.remove()
    return torch.cat(met, dim=1).norm(dim=1)


def test_a_network_of_one_block(tmp_path: Path) -> None:
    recipe = wanda(solver=Sparsegpt(), compensate=True)
    task = Task("any", batches()[0], {"train": batches()}, loss, None, None)  # type: ignore[arg-type]
    wanted = prune(llama(num_hidden_layers=1), task, recipe, 0.5).model
    prune_checkpoint(saved(tmp_path / "dense", num_hidden_layers=1), batches(), recipe, 0.5, tmp_path / "out")
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out")
    for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_classifier_keeps_what_lies_outside_of_its_blocks(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    config = transformers.BertConfig(num_attention_heads=4, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "dense")
    source, ids = Checkpoint.open(tmp_path / "dense"), [{"input_ids": batches()[0]["input_ids"]}]
    done = prune_checkpoint(source, ids, wanda(), 0.5, tmp_path / "out")
    assert done.left == ("bert.pooler.dense.weight",) and done.sparsity == 0.5
    pruned = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "out")
    assert pruned.get_parameter(done.left[0]).all()


def test_what_looks_at_values_is_traced_with_weights_a_block_at_a_time(tmp_path: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_heads": 4, "num_layers": 2, "vocab_size": 40, "num_experts": 2}
    config = transformers.SwitchTransformersConfig(**sizes, num_sparse_encoder_layers=1)
    torch.manual_seed(0)
    dense = transformers.SwitchTransformersForConditionalGeneration(config).eval()
    for parameter in dense.parameters():
        nn.init.normal_(parameter, std=0.3)
    dense.save_pretrained(tmp_path / "dense")
    ids = [batch["input_ids"] for batch in batches()]
    pairs = [{"input_ids": it, "decoder_input_ids": it.flip(0), "use_cache": False} for it in ids]
    task = Task("any", pairs[0], {"train": pairs}, loss, None, None)  # type: ignore[arg-type]
    wanted = prune(dense, task, wanda(), 0.5).model
    done = prune_checkpoint(Checkpoint.open(tmp_path / "dense"), pairs, wanda(), 0.5, tmp_path / "out")
    model = transformers.SwitchTransformersForConditionalGeneration.from_pretrained(tmp_path / "out")
    for (name, mine), (_, theirs) in zip(model.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    assert done.zeros["encoder.block.1.layer.1.mlp.experts.expert_0.wi.weight"] == 16 * 24 // 2
