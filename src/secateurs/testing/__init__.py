"""Conformance checks, for our parts and for parts that live in other packages.

Each check raises AssertionError with one line that says what the part does not keep to::

    from secateurs.testing import check_criterion

    def test_mine() -> None:
        check_criterion(Mine())
"""

from __future__ import annotations

from secateurs.testing.acting import check_measure, check_recovery, check_structure
from secateurs.testing.deciding import check_allocation, check_chooser, check_criterion, check_schedule
from secateurs.testing.example import example_model, example_task
from secateurs.testing.solving import check_solver
from secateurs.testing.turning import check_basis

__all__ = [
    "check_allocation",
    "check_basis",
    "check_chooser",
    "check_criterion",
    "check_measure",
    "check_recovery",
    "check_schedule",
    "check_solver",
    "check_structure",
    "example_model",
    "example_task",
]
