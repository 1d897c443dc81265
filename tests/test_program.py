"""A network as its operators is called as before, survives copying and JSON, and runs nothing that a file chose."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import trained_
from secateurs.archive import read_state
from secateurs.graph.rewrite import record
from secateurs.program import Program, read_program
from secateurs.types import SecateursError


class Net(nn.Module):
    """Tied matrices, a buffer, a tensor made of literals, a size of the inputs, fields in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.mix = nn.Linear(6, 6, bias=False)
        self.again = nn.Linear(6, 6, bias=False)
        self.again.weight = self.mix.weight
        self.unused = nn.Linear(2, 2)
        self.register_buffer("sign", torch.tensor([1.0, -1, 1, -1, 1, -1]), persistent=False)

    def forward(self, x: Tensor, scale: float = 1.0, more: Tensor | None = None) -> dict[str, Any]:
        h = self.norm(self.up(x)) * self.sign
        h = self.again(torch.relu(self.mix(h))) * scale + torch.arange(x.shape[0]).to(x.dtype)[:, None]
        return {"out": h + torch.tensor([0.5]), "nothing": None, "pair": (h.mean(1), h.amax(1))}


INPUTS = {"x": torch.randn(3, 4), "scale": 2.0, "more": None}


def program() -> tuple[nn.Module, Program]:
    model = trained_(Net())
    return model, record(model, INPUTS).program


def reread(made: Program) -> Program:
    state = read_state(made)
    return read_program(json.loads(json.dumps(state.program)), state.tensors, state.ties)


@pytest.mark.parametrize("form", [lambda made: made, copy.deepcopy, reread], ids=["itself", "copied", "written"])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_it_computes_what_the_network_computes(form: Any, batch: int) -> None:
    model, made = program()
    x = torch.randn(batch, 4)
    found, wanted = form(made)(x, scale=2.0), model(x, 2.0)
    assert torch.allclose(found.out, wanted["out"], atol=1e-6)
    assert torch.allclose(found["pair"][1], wanted["pair"][1], atol=1e-6)
    assert found[0] is found.out
    assert "nothing" not in found


def test_tensors_keep_their_names_and_ties() -> None:
    model, made = program()
    again = reread(made)
    for one in (made, again, copy.deepcopy(made)):
        assert dict(one.named_parameters()).keys() == dict(model.named_parameters()).keys()
        assert model.state_dict().keys() == one.state_dict().keys()
        assert one.mix.weight is one.again.weight
    assert again.get_parameter("mix.weight") is not made.get_parameter("mix.weight")


def test_it_is_trained() -> None:
    _, made = program()
    made(torch.randn(3, 4), 2.0).out.square().sum().backward()
    assert bool(made.get_parameter("up.weight").grad.any())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"scale": 2.0}, "x must be given"),
        ({"x": torch.randn(3, 4), "scale": 3.0}, "scale was 2.0"),
        ({"x": torch.randn(3, 4), "other": torch.ones(1)}, "other was no input"),
    ],
)
def test_what_it_cannot_be_called_with_is_said(given: dict[str, Any], why: str) -> None:
    with pytest.raises(SecateursError, match=why):
        program()[1](**given)


@pytest.mark.parametrize("name", ["os.system.default", "aten.nothing.default", "exec", "prims.add.default"])
def test_a_file_calls_nothing_but_operators(name: str) -> None:
    _, made = program()
    state = read_state(made)
    found = json.loads(json.dumps(state.program))
    next(step for step in found["steps"] if "call" in step)["call"] = name
    with pytest.raises(SecateursError):
        read_program(found, state.tensors, state.ties)


@pytest.mark.parametrize("name", ["x): import os\ndef f(", "a b", "class"])
def test_a_file_writes_no_code(name: str) -> None:
    """The names of a file end in source text: they must be names."""
    _, made = program()
    state = read_state(made)
    for where in ("inputs", "steps"):
        found = json.loads(json.dumps(state.program))
        found[where][0]["name"] = name
        with pytest.raises(SecateursError, match="no program"):
            read_program(found, state.tensors, state.ties)
