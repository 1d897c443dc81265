"""How a result says it is loaded: without more where that runs no code of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from secateurs.criteria.magnitude import Magnitude
from secateurs.deploy import Build, Function, save
from secateurs.job.result import Result
from secateurs.prune import Pruned
from secateurs.recipe import Recipe
from secateurs.report.comparison import Comparison
from secateurs.search.outcome import Outcome
from secateurs.structures.neuron import Neuron
from secateurs.tasks.mnist import conv_net
from secateurs.types import Plan


@pytest.mark.parametrize(
    ("build", "call"),
    [
        (Function("secateurs.tasks.mnist:conv_net"), "secateurs.load('{}')"),
        (Function("my.module:build"), "secateurs.load('{}', build=...)"),
        (None, "secateurs.load('{}', build=...)"),
    ],
)
def test_loading(build: Build | None, call: str, tmp_path: Path) -> None:
    model: nn.Module = conv_net()
    recipe = Recipe(structure=(Neuron(),), criterion=Magnitude())
    save(tmp_path / "a", Pruned(model, Plan({}), (), model, (), 0.0), recipe=recipe, manifest={}, build=build)
    outcome = Outcome(model, None, False, 0.1, 0.8, {}, {}, {}, None, (), (), 1.0, None, ("a note",))
    result = Result("t", outcome, Comparison({}, {}, notes=("another",)), tmp_path / "a", 0.0)
    assert result.loading == call.format(tmp_path / "a")
    assert result.notes == ("a note", "another")
