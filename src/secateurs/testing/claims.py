"""What every check is made of: a claim that holds or is said to fail, a seeded draw, the round trip of a spec."""

from __future__ import annotations

from typing import Any

import torch

from secateurs.recipe import describe, part


def require(holds: bool, line: str) -> None:
    """Fail with this line unless it holds; also where Python runs without asserts.

    Raises:
        AssertionError: It does not hold.
    """
    if not holds:
        raise AssertionError(line)


def generator(seed: int = 0) -> torch.Generator:
    """A source of chance of its own."""
    return torch.Generator().manual_seed(seed)


def check_spec(axis: str, made: Any) -> None:
    """A part comes back from its own description.

    Raises:
        AssertionError: It does not.
    """
    spec = describe(axis, made)
    require(part(axis, spec) == made, f"{made} does not come back from {spec}")
