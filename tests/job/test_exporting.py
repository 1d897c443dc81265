"""An artifact is written in a form that needs nothing of ours."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from networks import NETWORKS, groups_of
from secateurs import surgery
from secateurs.deploy import Function, Transformers, save
from secateurs.graph import trace
from secateurs.job.exporting import export_named
from secateurs.types import Plan, SecateursError


class _Recipe:
    def to_yaml(self) -> str:
        return "structure: [neuron]\n"


def artifact(directory: Path, own: bool = False) -> str:
    model, inputs = NETWORKS["bert"].build(), NETWORKS["bert"].inputs(2, 6)
    graph = trace(model, inputs)
    groups = [group for group in groups_of(graph) if group.name.endswith("ffn")]
    plan = Plan({group.name: torch.arange(group.n_units) >= 8 for group in groups})
    shrunk = surgery.shrink(model, groups, plan, graph, inputs)
    pruned: Any = SimpleNamespace(model=shrunk.model, masked=model, plan=plan, repairs=shrunk.repairs)
    build = Function("nets.py:bert") if own else Transformers.of(model)
    save(directory, pruned, recipe=_Recipe(), manifest={}, build=build)
    return str(directory)


def test_an_artifact_becomes_a_plain_directory_with_its_tokenizer(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    name = artifact(tmp_path / "artifact")
    (tmp_path / "artifact" / "tokenizer_config.json").write_text("{}")
    done = export_named(name, tmp_path / "plain")
    assert done.changes == {"intermediate_size": (20, 12)}
    assert done.architecture == "BertForSequenceClassification"
    assert (tmp_path / "plain" / "tokenizer_config.json").is_file()
    assert BertForSequenceClassification.from_pretrained(tmp_path / "plain").config.intermediate_size == 12


def test_what_is_no_artifact_is_told_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text("{}")
    told = {
        "text": "is no artifact: give the",
        "none": "does not exist: give the",
        "plain": "plain transformers directory",
    }
    for name, line in told.items():
        with pytest.raises(SecateursError, match=f"{name} .*{line}"):
            export_named(str(tmp_path / name), tmp_path / "out")


def test_a_network_of_ones_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match=r"no model of transformers; load it by secateurs\.load"):
        export_named(artifact(tmp_path / "artifact", own=True), tmp_path / "plain")
