"""Tensors, plans and repairs come back from a file exactly as they went in."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import nn

from secateurs.archive import (
    State,
    give_state_,
    pack_plan,
    pack_repairs,
    plain,
    read_state,
    read_tensors,
    unpack_plan,
    unpack_repairs,
    write_tensors,
)
from secateurs.repair import Repair
from secateurs.types import Argument, Plan, Reading, SecateursError, Skip


class Tied(nn.Module):
    def __init__(self, width: int = 4, tie: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, width)
        self.head = nn.Linear(width, 7, bias=False)
        if tie:
            self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(width)
        self.register_buffer("index", torch.arange(width), persistent=False)


def _through(model: nn.Module, path: Path) -> State:
    state = read_state(model)
    write_tensors(path, state.tensors, {"ties": state.ties, "passing": sorted(state.passing)})
    tensors, about = read_tensors(path)
    return State(tensors, about["ties"], frozenset(about["passing"]))


def test_state_holds_ties_once_and_buffers_that_state_dict_leaves_out() -> None:
    state = read_state(Tied())
    assert state.ties == {"head.weight": "embedding.weight"}
    assert "head.weight" not in state.tensors
    assert state.passing == {"index"} and "index" in state.tensors
    assert {"norm.running_mean", "norm.num_batches_tracked"} <= set(state.tensors)


def test_other_shapes_and_values_arrive_and_ties_stay(tmp_path: Path) -> None:
    small, dense = Tied(3), Tied(4)
    dense.norm.weight.requires_grad_(False)
    holder = dense.embedding.weight
    give_state_(dense, _through(small, tmp_path / "m.safetensors"))
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, dense.state_dict()[name]), name
    assert torch.equal(dense.index, torch.arange(3))
    assert dense.head.weight is dense.embedding.weight is holder
    assert dense.embedding.weight.requires_grad and not dense.norm.weight.requires_grad


def test_what_was_untied_stays_untied_and_what_was_tied_is_tied(tmp_path: Path) -> None:
    tied, untied = Tied(tie=True), Tied(tie=False)
    expected = {k: v.clone() for k, v in untied.state_dict().items()}
    give_state_(tied, _through(untied, tmp_path / "u.safetensors"))
    assert tied.head.weight is not tied.embedding.weight
    assert torch.equal(tied.head.weight, expected["head.weight"])
    assert torch.equal(tied.embedding.weight, expected["embedding.weight"])
    again = Tied(tie=True)
    give_state_(untied, _through(again, tmp_path / "t.safetensors"))
    assert untied.head.weight is untied.embedding.weight


def test_the_stored_dtype_wins(tmp_path: Path) -> None:
    half, model = Tied().to(torch.bfloat16), Tied()
    give_state_(model, _through(half, tmp_path / "h.safetensors"))
    assert model.head.weight.dtype == torch.bfloat16 and model.head.weight is model.embedding.weight


def test_a_given_state_is_the_models_own() -> None:
    source, model = Tied(), Tied()
    give_state_(model, read_state(source))
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.norm.running_mean.add_(1)
    assert source.embedding.weight.any() and not source.norm.running_mean.any()


def test_names_that_do_not_match_are_named() -> None:
    state = read_state(Tied())
    with pytest.raises(SecateursError, match=r"lack 0\.bias"):
        give_state_(nn.Sequential(nn.Linear(2, 2)), State({"0.weight": torch.ones(2, 2)}, {}))
    with pytest.raises(SecateursError, match=r"no place for embedding\.weight"):
        give_state_(nn.Sequential(), state)
    model = Tied()
    del model._buffers["index"]  # a newer version of the code does without it
    give_state_(model, state)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.booleans(), max_size=40), max_size=4))
def test_plans_round_trip(keep: dict[str, list[bool]]) -> None:
    plan = Plan({name: torch.tensor(bits, dtype=torch.bool) for name, bits in keep.items()})
    packed, sizes = pack_plan(plan)
    back = unpack_plan(packed, sizes)
    assert list(back.keep) == list(plan.keep)
    assert all(torch.equal(back.keep[n], plan.keep[n]) for n in plan.keep)
    assert sum(p.numel() for p in packed.values()) == sum(-(-len(bits) // 8) for bits in keep.values())


def test_repairs_round_trip() -> None:
    repairs = (Repair("a.b", "heads", 3), Repair("", "config.sizes", (1, 2)))
    assert unpack_repairs(pack_repairs(repairs)) == repairs


def test_what_is_skipped_round_trips() -> None:
    returns = (Argument("x", 0, zero=True), None, (Argument("mask", -1),))
    repairs = (Skip("layers.0", Argument("x", 0)), Skip("layers.1", returns), Skip("layers.2", None))
    assert unpack_repairs(json.loads(json.dumps(pack_repairs(repairs)))) == repairs


def test_overlapping_tensors_are_written_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {"base": base, "row": base[1], "again": base.view(12)}
    write_tensors(tmp_path / "o.safetensors", tensors, {})
    back, _ = read_tensors(tmp_path / "o.safetensors")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    write_tensors(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SecateursError, match=r"cut\.safetensors"):
        read_tensors(path)
    with pytest.raises(SecateursError, match=r"none\.safetensors"):
        read_tensors(tmp_path / "none.safetensors")


def test_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("secateurs.archive.save_file", full)
    with pytest.raises(OSError) as caught:
        write_tensors(tmp_path / "f.safetensors", {"a": torch.ones(10)}, {})
    assert caught.value.errno == errno.ENOSPC


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_tensors(tmp_path / "p.safetensors", {"a": torch.ones(10)}, {})
    assert (tmp_path / "p.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_tensor_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecateursError, match=r"s\.safetensors"):
        write_tensors(tmp_path / "s.safetensors", {"a": torch.eye(3).to_sparse()}, {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (torch.tensor(2.0), 2.0),
        (Path("a/b"), "a/b"),
        ({1: (1, 2)}, {"1": [1, 2]}),
        ({"b", "a"}, ["a", "b"]),
        (torch.float32, "torch.float32"),
        (True, True),
    ],
)
def test_plain(value: object, expected: object) -> None:
    got = plain(value)
    assert got == expected and type(got) is type(expected)
    json.dumps(got, allow_nan=False)


def test_readings_keep_their_fields() -> None:
    reading = Reading("latency", 0.5, "s", "measured", spread=(0.4, math.inf), samples=3)
    assert plain({"a": [reading]})["a"][0] == {
        "measure": "latency", "value": 0.5, "unit": "s", "how": "measured", "spread": [0.4, None],
        "source": None, "samples": 3, "note": None,
    }  # fmt: skip


def test_tensors_in_another_memory_order_are_written(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "a.safetensors", {"weight": weight}, {})
    found, _ = read_tensors(tmp_path / "a.safetensors")
    assert torch.equal(found["weight"], weight)
