"""What was saved comes back in a new process, and nothing else does."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateurs.deploy import Function, Transformers, load, read_build, read_manifest, read_plan, save
from secateurs.types import Plan, SecateursError

Make = Callable[..., Path]
TOKENS = torch.arange(9)


def dense(pruned: Any, hidden: int = 12) -> nn.Module:
    return type(pruned.masked)(hidden)


def test_the_same_network_comes_back(artifact: Make, pruned: Any) -> None:
    model = load(artifact(), build=lambda: dense(pruned))
    assert not model.training
    assert torch.equal(model(TOKENS), pruned.model(TOKENS))
    assert model.head.weight is model.embedding.weight
    assert (model.hidden, model.up.out_features, model.up.weight.shape) == (6, 6, (6, 4))


def test_the_plan_comes_back(artifact: Make, pruned: Any) -> None:
    plan = read_plan(artifact())
    assert torch.equal(plan.keep["hidden"], pruned.plan.keep["hidden"])


def test_a_network_that_lost_nothing_comes_back(tmp_path: Path, pruned: Any) -> None:
    whole = type(pruned)(pruned.masked, Plan({}), (), pruned.masked)
    save(tmp_path / "whole", whole, recipe=_Recipe(), manifest={}, build=None)
    assert read_plan(tmp_path / "whole").keep == {}
    model = load(tmp_path / "whole", build=lambda: dense(pruned))
    assert torch.equal(model(TOKENS), pruned.masked(TOKENS))


def test_the_random_state_is_left_alone(artifact: Make, pruned: Any) -> None:
    where = artifact()
    before = torch.random.get_rng_state()
    load(where, build=lambda: dense(pruned))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["model.safetensors", "plan.safetensors", "repairs.json", "recipe.yaml"])
@pytest.mark.parametrize("harm", ["truncate", "tamper", "remove"])
def test_damage_is_named(artifact: Make, pruned: Any, name: str, harm: str) -> None:
    path = artifact() / name
    content = path.read_bytes()
    path.unlink()
    if harm == "truncate":
        path.write_bytes(content[:-1])
    elif harm == "tamper":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SecateursError, match=name):
        load(path.parent, build=lambda: dense(pruned))
    with pytest.raises(SecateursError, match=name):
        read_plan(path.parent)


def test_a_directory_that_is_no_artifact(tmp_path: Path, artifact: Make) -> None:
    with pytest.raises(SecateursError, match="is no secateurs artifact"):
        load(tmp_path)
    with pytest.raises(SecateursError, match="is no secateurs artifact"):
        read_manifest(tmp_path / "nowhere")
    where = artifact()
    for text in ("{", "[]", '{"files": 3}', '{"format": "x", "files": []}'):
        (where / "manifest.json").write_text(text)
        with pytest.raises(SecateursError, match=r"manifest\.json"):
            load(where)


def test_a_manifest_that_leaves_the_weights_out(artifact: Make, pruned: Any) -> None:
    path = artifact() / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["model.safetensors"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(SecateursError, match=r"does not list model\.safetensors"):
        load(path.parent, build=lambda: dense(pruned))


def test_a_later_format_is_named(artifact: Make) -> None:
    path = artifact() / "manifest.json"
    path.write_text(path.read_text().replace("artifact 1", "artifact 9"))
    with pytest.raises(SecateursError, match="artifact 9"):
        load(path.parent)


def test_another_network_is_refused(artifact: Make, pruned: Any) -> None:
    with pytest.raises(SecateursError, match=r"up\.weight is built as \[8, 4\] and was \[12, 4\]"):
        load(artifact(), build=lambda: dense(pruned, 8))
    with pytest.raises(SecateursError, match="belong to a network that is built otherwise"):
        load(artifact("second"), build=nn.Sequential)
    with pytest.raises(SecateursError, match="returned int"):
        load(artifact("third"), build=lambda: 3)  # type: ignore[arg-type,return-value]


def test_without_a_build_one_must_be_given(artifact: Make) -> None:
    with pytest.raises(SecateursError, match="does not say how its network is built"):
        load(artifact())


def test_a_function_that_a_file_names_is_not_run(artifact: Make, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w').close()\ndef make():\n    raise AssertionError\n"
    (tmp_path / "net.py").write_text(code)
    where = artifact(build=Function(f"{tmp_path}/net.py:make"))
    with pytest.raises(SecateursError, match="which is your code to run"):
        load(where)
    assert not trace.exists()


def test_a_function_that_is_trusted_is_run_with_its_arguments(artifact: Make, pruned: Any) -> None:
    net = type(pruned.masked)
    where = artifact(build=Function(f"{inspect.getfile(net)}:{net.__name__}", {"hidden": 12}))
    model = load(where, build=read_build(where))
    assert torch.equal(model(TOKENS), pruned.model(TOKENS))


BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6, "vocab_size": 11}
RELOAD = """
import sys, torch
from secateurs.deploy import load
model = load(sys.argv[1])
tokens = torch.arange(10).view(2, 5)
torch.save(model(input_ids=tokens).logits, sys.argv[2])
print(*[m for m in ("secateurs.graph", "secateurs.surgery", "secateurs.prune", "secateurs.recipe") if m in sys.modules])
"""


def test_a_transformers_model_comes_back_in_a_new_process_without_the_tracer(tmp_path: Path, pruned: Any) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.BertForMaskedLM(transformers.BertConfig(**BERT)).eval()
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "unrelated.txt").write_text("")
    build = Transformers.of(model, tmp_path)
    whole = type(pruned)(model, pruned.plan, (), model)
    save(tmp_path / "a", whole, recipe=_Recipe(), manifest={}, build=build)
    assert (tmp_path / "a" / "vocab.txt").exists() and not (tmp_path / "a" / "unrelated.txt").exists()
    out = tmp_path / "logits.pt"
    command = [sys.executable, "-c", RELOAD, tmp_path / "a", out]
    seen = subprocess.run(command, check=False, capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.split() == [], "loading imported the tracer"
    expected = model(input_ids=torch.arange(10).view(2, 5)).logits
    assert torch.allclose(torch.load(out), expected, atol=1e-6)


def test_a_rewritten_network_comes_back_without_its_code(tmp_path: Path, pruned: Any) -> None:
    from secateurs.graph.rewrite import record

    token = torch.arange(5)
    program = record(pruned.model, (token,)).program
    save(tmp_path / "a", replace(pruned, model=program, repairs=()), recipe=_Recipe(), manifest={}, build=None)
    code = RELOAD.replace("tokens = torch.arange(10).view(2, 5)", "tokens = torch.arange(7)")
    code = code.replace("model(input_ids=tokens).logits", "model(token=tokens)")
    out = tmp_path / "out.pt"
    command = [sys.executable, "-c", code, tmp_path / "a", out]
    seen = subprocess.run(command, check=False, capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.split() == [], "loading imported the tracer"
    assert torch.allclose(torch.load(out), pruned.model.eval()(torch.arange(7)), atol=1e-6)


class _Recipe:
    def to_yaml(self) -> str:
        return "structure: [head]\n"


def test_reading_no_pickle() -> None:

    for name in ("secateurs.archive", "secateurs.deploy.load", "secateurs.deploy.save", "secateurs.deploy.manifest"):
        source = Path(sys.modules[name].__file__ or "").read_text()
        assert "torch.load" not in source and "torch.save" not in source and "import pickle" not in source
