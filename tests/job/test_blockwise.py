from __future__ import annotations

from dataclasses import replace

import pytest

from secateurs import on_disk, shrink
from secateurs.job.blockwise import Wanted
from secateurs.types import SecateursError


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"recipe": "nonsense"}, "nonsense"),
        ({"sparsity": 1.5}, "between 0 and 1"),
        ({"matmul": "low"}, "matmul must be one of"),
        ({"shelf": "nowhere"}, "no directory nowhere"),
    ],
)
def test_what_is_wanted_is_checked_first(changes: dict[str, object], line: str) -> None:
    with pytest.raises(SecateursError, match=line):
        replace(Wanted(0.5, "wanda"), **changes).checked(on_disk.check)  # type: ignore[arg-type]


def test_each_method_has_recipes_of_its_own_and_names_the_other() -> None:
    with pytest.raises(SecateursError, match="`secateurs shrink`, which makes the network smaller"):
        Wanted(0.5, "shortgpt").checked(on_disk.check)
    with pytest.raises(SecateursError, match="`secateurs sparsify` takes it"):
        Wanted(0.5, "wanda").checked(shrink.check)
