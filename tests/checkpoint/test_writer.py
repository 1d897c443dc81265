"""A directory written part by part: whole or not there, whatever interrupts it; and the same bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateurs.checkpoint.writer as module
from chained import CASES
from secateurs.blocks import chains, outside
from secateurs.checkpoint import Checkpoint, Writer
from secateurs.types import SecateursError

from .conftest import Saved

transformers = pytest.importorskip("transformers")


class Killed(BaseException):
    """Nothing runs after it, as after SIGKILL."""


def parts_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    found = chains(checkpoint.model)
    return (*outside(checkpoint.model, found), *(block for chain in found for block in chain.blocks))


def halved(checkpoint: Checkpoint, part: str) -> dict[str, Tensor]:
    return {name: tensor / 2 for name, tensor in checkpoint.each(part)}


def write(directory: Path, checkpoint: Checkpoint, parts: tuple[str, ...] = ()) -> list[str]:
    """What a job does: the parts that are not finished, then the end; gives the parts written this time."""
    parts = parts or parts_of(checkpoint)
    writer = Writer(directory, checkpoint, parts)
    todo = [part for part in parts if part not in writer.finished]
    for part in todo:
        writer.write(part, halved(checkpoint, part), {"part": part})
    assert writer.notes == {part: {"part": part} for part in parts}
    writer.finish()
    return todo


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma", "mixtral", "t5", "bart"])
def test_transformers_loads_what_is_written(saved: Saved, tmp_path: Path, name: str) -> None:
    model, directory = saved(name)
    (directory / "tokenizer.json").write_text("{}")
    out = tmp_path / "out"
    write(out, Checkpoint.open(directory))
    again = type(model).from_pretrained(out).eval()
    for parameter in model.parameters():
        parameter.data /= 2
    with torch.no_grad():
        given = CASES[name][1]()
        assert torch.equal(again(**given).logits, model(**given).logits)
    assert {path.name for path in out.iterdir()} >= {"tokenizer.json", "config.json", "model.safetensors.index.json"}
    assert not (tmp_path / "out.partial").exists()
    assert {type(p) for p in map(again.get_parameter, dict(again.named_parameters()))} == {nn.Parameter}


def test_killed_at_any_moment_it_is_taken_up_and_gives_the_same_bytes(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    parts = ("model.layers", "model.norm", "model.embed_tokens", "lm_head")
    write(tmp_path / "whole", checkpoint, parts)
    expected = content(tmp_path / "whole")
    calls = 0
    last = 10**9

    def dying(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > last:
                raise Killed
            return original(*args, **kwargs)

        return call

    for holder, name in (
        (os, "replace"),
        (os, "rename"),
        (module, "write_plain"),
        (module, "sync"),
        (module.shutil, "copyfile"),
    ):
        monkeypatch.setattr(holder, name, dying(getattr(holder, name)))
    write(tmp_path / "counted", checkpoint, parts)
    moments = calls
    written = 0
    for moment in range(moments):
        out = tmp_path / f"out{moment}"
        calls, last = 0, moment
        with pytest.raises(Killed):
            write(out, checkpoint, parts)
        last = 10**9
        if out.exists():  # all was there before the last sync
            assert content(out) == expected
            continue
        assert not list(tmp_path.glob(f"out{moment}/*"))
        written += len(write(out, checkpoint, parts))
        assert content(out) == expected
        assert not out.with_name(f"{out.name}.partial").exists()
    assert written < moments * len(parts) * 0.7  # what was finished was not written again


def test_a_finished_part_comes_back_as_it_was_written(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("mixtral")[1])
    part = "model.layers.1"
    with pytest.raises(SecateursError, match=r"model\.layers\.1 is not written yet"):
        Writer(tmp_path / "out", checkpoint, parts_of(checkpoint)).load_(part, checkpoint.empty())
    Writer(tmp_path / "out", checkpoint, parts_of(checkpoint)).write(part, halved(checkpoint, part), note=3)
    writer = Writer(tmp_path / "out", checkpoint, parts_of(checkpoint))
    assert writer.finished == (part,)
    assert writer.notes == {part: 3}
    net = checkpoint.empty()
    writer.load_(part, net)
    for name, tensor in halved(checkpoint, part).items():
        assert torch.equal(net.get_parameter(name), tensor)


def test_a_part_that_was_changed_is_written_anew(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    parts = parts_of(checkpoint)
    writer = Writer(tmp_path / "out", checkpoint, parts)
    for part in parts[:3]:
        writer.write(part, halved(checkpoint, part))
    shard = sorted((tmp_path / "out.partial" / "files").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert Writer(tmp_path / "out", checkpoint, parts).finished == (parts[0], parts[2])


def test_jobs_do_not_mix(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    Writer(tmp_path / "out", checkpoint, parts_of(checkpoint), {"sparsity": 0.5})
    Writer(tmp_path / "out", checkpoint, parts_of(checkpoint), {"sparsity": 0.5})
    with pytest.raises(SecateursError, match=r"by a job with another sparsity \(0\.5, now 0\.6\): remove it"):
        Writer(tmp_path / "out", checkpoint, parts_of(checkpoint), {"sparsity": 0.6})
    with pytest.raises(SecateursError, match=r"by a job with another source, parts, seed: remove it"):
        other = Checkpoint.open(saved("gpt2")[1])
        Writer(tmp_path / "out", other, parts_of(other), {"sparsity": 0.5, "seed": 1})


def test_what_exists_is_not_overwritten(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    write(tmp_path / "out", checkpoint)
    with pytest.raises(SecateursError, match="out exists"):
        Writer(tmp_path / "out", checkpoint, parts_of(checkpoint))


def test_it_does_not_look_finished_before_it_is(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    writer = Writer(tmp_path / "out", checkpoint, parts_of(checkpoint))
    writer.write("model.norm.weight", halved(checkpoint, "model.norm.weight"))
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "out.partial").rglob("*index.json")) + list(
        (tmp_path / "out.partial").rglob("config.json")
    )
    with pytest.raises(SecateursError, match=r"out is not finished: model\.embed_tokens\.weight is not written yet"):
        writer.finish()


def test_a_full_disk_leaves_what_is_finished(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    parts = parts_of(checkpoint)
    writer = Writer(tmp_path / "out", checkpoint, parts)
    writer.write(parts[0], halved(checkpoint, parts[0]))

    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_plain", full)
        with pytest.raises(
            SecateursError, match=r"out: .* was not written, the disk is full; finished parts stay in out\.partial"
        ):
            writer.write(parts[1], halved(checkpoint, parts[1]))
    assert [path.name for path in (tmp_path / "out.partial").iterdir() if path.is_file()] == ["job.json"]
    assert write(tmp_path / "other", checkpoint) and Writer(tmp_path / "out", checkpoint, parts).finished == parts[:1]


def test_where_nothing_can_be_written_another_directory_is_asked_for(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    (tmp_path / "file").touch()
    with pytest.raises(SecateursError, match=r"out: cannot be written, .*; give another directory") as caught:
        Writer(tmp_path / "file" / "out", checkpoint, parts_of(checkpoint))
    assert "again" not in str(caught.value)


def test_the_config_says_of_which_type_the_numbers_are(saved: Saved, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(saved("llama")[1])
    parts = parts_of(checkpoint)
    writer = Writer(tmp_path / "out", checkpoint, parts)
    for part in parts:
        writer.write(part, {name: tensor.half() for name, tensor in checkpoint.each(part)})
    writer.finish()
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.float16


def test_what_is_left_out_leaves_no_gap_and_what_is_remembered_stays(saved: Saved, tmp_path: Path) -> None:
    _, directory = saved("llama")
    checkpoint = Checkpoint.open(directory)
    parts = parts_of(checkpoint)
    gone = next(part for part in parts if part.endswith("layers.0"))
    for written in (parts[:3], parts):
        writer = Writer(tmp_path / "out", checkpoint, parts)
        assert writer.remembered("gone") == ([gone] if written is parts else None)
        writer.remember("gone", [gone])
        writer.leave_out([gone])
        for part in written:
            if part not in (gone, *writer.finished):
                writer.write(part, halved(checkpoint, part))
    writer.finish({"rope_theta": 5.0})
    shards = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert shards == [f"model-{i:05d}-of-{len(parts) - 1:05d}.safetensors" for i in range(1, len(parts))]
    assert '"rope_theta": 5.0' in (tmp_path / "out" / "config.json").read_text()
