"""Saving writes everything or nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from secateurs.deploy import Function, Transformers, save
from secateurs.deploy.manifest import digest
from secateurs.types import Reading, SecateursError

MODULE = import_module("secateurs.deploy.save")  # the package's attribute of this name is the function
Make = Callable[..., Path]


def test_an_artifact_is_data_alone(artifact: Make) -> None:
    where = artifact(epsilon=0.01, readings={"accuracy": Reading("accuracy", 0.9, "1", "measured")})
    names = {path.name for path in where.iterdir()}
    assert names == {"model.safetensors", "plan.safetensors", "repairs.json", "recipe.yaml", "manifest.json"}
    manifest = json.loads((where / "manifest.json").read_text())
    assert manifest["epsilon"] == 0.01
    assert manifest["readings"]["accuracy"]["how"] == "measured"
    assert manifest["versions"].keys() >= {"python", "torch", "secateurs"}
    assert manifest["files"] == {name: digest(where / name) for name in names - {"manifest.json"}}


def test_tied_weights_are_stored_once(artifact: Make) -> None:
    stored = load_file(artifact() / "model.safetensors")
    assert "embedding.weight" in stored and "head.weight" not in stored
    assert stored["up.weight"].shape == (6, 4) and stored["sign"].shape == (6,)


def test_an_existing_directory_is_left_alone(tmp_path: Path, artifact: Make) -> None:
    (tmp_path / "artifact").mkdir()
    with pytest.raises(SecateursError, match="exists"):
        artifact()
    assert list((tmp_path / "artifact").iterdir()) == []


@pytest.mark.parametrize("step", ["write_tensors", "os.rename"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, artifact: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    holder, _, name = step.rpartition(".")
    monkeypatch.setattr(os if holder else MODULE, name, full)
    with pytest.raises(SecateursError, match="the disk is full"):
        artifact()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, artifact: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MODULE, "pack_plan", stop)
    with pytest.raises(KeyboardInterrupt):
        artifact()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, pruned: Any, artifact: Make) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SecateursError, match="file/below"):
        artifact("file/below")


@pytest.mark.parametrize("key", ["files", "build", "format"])
def test_reserved_keys_are_refused(tmp_path: Path, pruned: Any, artifact: Make, key: str) -> None:
    with pytest.raises(SecateursError, match=key):
        save(tmp_path / "artifact", pruned, recipe=Any, manifest={key: 1}, build=None)  # type: ignore[arg-type]


def test_a_function_is_written_with_plain_arguments_and_an_absolute_path(tmp_path: Path, artifact: Make) -> None:
    where = artifact(build=Function("net.py:make", {"path": tmp_path, "n": 3}))
    said = json.loads((where / "manifest.json").read_text())["build"]["function"]
    assert said["arguments"] == {"path": str(tmp_path), "n": 3}
    assert Path(said["target"].rpartition(":")[0]).is_absolute()
    with pytest.raises(SecateursError, match=r"net\.py:make: its arguments"):
        artifact("second", build=Function("net.py:make", {"made": object()}))
    assert not (tmp_path / "second").exists()


def test_files_given_beside_a_transformers_model_may_not_hide_ours(tmp_path: Path, artifact: Make) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(SecateursError, match=r"recipe\.yaml"):
        artifact(build=Transformers("BertModel", {}, files=(tmp_path / "recipe.yaml",)))
    assert not (tmp_path / "artifact").exists()
