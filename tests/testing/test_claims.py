from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from secateurs.schedules.cubic import Cubic
from secateurs.testing.claims import check_spec, generator, require


def test_require() -> None:
    require(True, "never said")
    with pytest.raises(AssertionError, match="said"):
        require(False, "said")


def test_generators_are_apart() -> None:
    draws = [torch.rand(4, generator=generator(seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@dataclass(frozen=True)
class Forgetful:
    """A schedule that does not say all that it is made of."""

    rounds: int = 1
    mood: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mood", torch.rand(()).item())

    def __call__(self, sparsity: float, start: float = 0.0) -> tuple[float, ...]:
        return (sparsity,)


def test_round_trip_of_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    check_spec("schedule", Cubic(7))
    monkeypatch.setattr("secateurs.testing.claims.part", lambda axis, spec: Forgetful())
    with pytest.raises(AssertionError, match="does not come back from"):
        check_spec("schedule", Forgetful())
